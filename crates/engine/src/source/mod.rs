//! Where a model comes from: the embedded one, a folder, or a repository of the Hugging Face hub.

mod embedded;
mod files;
mod folder;
mod hub;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Result;

pub(crate) use files::{ChatFiles, ModelFiles, TokenizerFile, WeightFiles};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The small model inside the binary (cargo feature `embedded-model`).
    Embedded,
    /// A folder in Hugging Face's layout: `config.json`, `tokenizer.json` or `spiece.model`, `model.safetensors` or
    /// `model.safetensors.index.json` with its shards, and optionally `generation_config.json`. Or a GGUF file.
    Path(PathBuf),
    /// A repository of the Hugging Face hub. Cached files (`HF_HOME`) are used first, so a model that was downloaded
    /// once loads without a network. Other files come from `HF_ENDPOINT`, with `HF_TOKEN` if set.
    Hub {
        /// `owner/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// No model: every text is answered at once with its first sentence. Only for benchmarks of the code around the
    /// engine, hence the conspicuous name [`NO_OP`].
    NoOp,
    /// Like [`ModelSource::NoOp`], and texts can ask for faults: a panic, a hang, a crash. Only for tests, hence the
    /// conspicuous name [`FAULTY`].
    Faulty,
}

impl ModelSource {
    /// Returns the name that results give the model.
    pub fn model_name(&self) -> String {
        match self {
            Self::Embedded => embedded::NAME.to_owned(),
            Self::Path(folder) => folder::name(folder),
            Self::Hub { id, .. } => hub::name(id),
            Self::NoOp | Self::Faulty => crate::noop::info().name,
        }
    }
}

/// The name of [`ModelSource::NoOp`].
pub const NO_OP: &str = "benchmark:no-op";

/// The name of [`ModelSource::Faulty`].
pub const FAULTY: &str = "benchmark:faulty";

/// A string that names no model source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no model: use `embedded`, a folder that starts with `/`, `./` or `../`, or `hub:owner/name@revision`"
)]
pub struct SourceError(String);

/// Parses `embedded`, [`NO_OP`], [`FAULTY`], `hub:owner/name`, `hub:owner/name@revision`, or a folder that starts with `/`, `./`,
/// `../` or `path:`.
impl FromStr for ModelSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let error = || SourceError(text.to_owned());
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        if text == NO_OP {
            return Ok(Self::NoOp);
        }
        if text == FAULTY {
            return Ok(Self::Faulty);
        }
        if let Some(id) = text.strip_prefix("hub:") {
            let (id, revision) = id.split_once('@').unwrap_or((id, "main"));
            let plain =
                |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\']);
            let well_formed = id.split('/').count() <= 2 && id.split('/').all(plain) && !revision.is_empty();
            return match well_formed {
                true => Ok(Self::Hub {
                    id: id.to_owned(),
                    revision: revision.to_owned(),
                }),
                false => Err(error()),
            };
        }
        match text.strip_prefix("path:") {
            Some("") => Err(error()),
            Some(path) => Ok(Self::Path(path.into())),
            None if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) => {
                Ok(Self::Path(text.into()))
            }
            None => Err(error()),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Path(path) => write!(f, "path:{}", path.display()),
            Self::Hub { id, revision } => write!(f, "hub:{id}@{revision}"),
            Self::NoOp => f.write_str(NO_OP),
            Self::Faulty => f.write_str(FAULTY),
        }
    }
}

/// Locates the files of `source` and downloads those missing from the hub's cache. Returns `None` for
/// [`ModelSource::NoOp`] and [`ModelSource::Faulty`]. With `newest`, asks the hub for the latest commit of a branch.
pub(crate) fn find(source: &ModelSource, newest: bool) -> Result<Option<ModelFiles>> {
    match source {
        ModelSource::Embedded => embedded::files().map(Some),
        ModelSource::Path(folder) => folder::files(folder).map(Some),
        ModelSource::Hub { id, revision } => hub::files(id, revision, newest).map(Some),
        ModelSource::NoOp | ModelSource::Faulty => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_round_trip_through_text() {
        for text in [
            "embedded",
            NO_OP,
            FAULTY,
            "path:/models/t5",
            "hub:t5-small@main",
            "hub:owner/name@refs/pr/1",
        ] {
            assert_eq!(text.parse::<ModelSource>().unwrap().to_string(), text);
        }
        assert_eq!(
            "./models/t5".parse::<ModelSource>().unwrap().to_string(),
            "path:./models/t5"
        );
        assert_eq!(
            "hub:owner/name".parse::<ModelSource>().unwrap().to_string(),
            "hub:owner/name@main"
        );
        for text in [
            "",
            "t5-small",
            "path:",
            "hub:",
            "hub:a/b/c",
            "hub:../b",
            "hub:a/b@",
            "hub:/b",
        ] {
            assert!(text.parse::<ModelSource>().is_err(), "{text}");
        }
    }
}
