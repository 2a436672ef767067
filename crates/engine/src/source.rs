//! Where a model comes from, and the files it consists of.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{LoadError, Result};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The small model inside the binary (cargo feature `embedded-model`).
    Embedded,
    /// A folder in the layout of Hugging Face: `config.json`, `tokenizer.json` or `spiece.model`, `model.safetensors` or
    /// `model.safetensors.index.json` with its shards, and `generation_config.json` where there is one.
    Path(PathBuf),
    /// A repository of the Hugging Face hub. Files come from the cache (`HF_HOME`) if they are there, so that a model
    /// once fetched loads without a network; else from `HF_ENDPOINT`, with `HF_TOKEN` if set.
    Hub {
        /// `owner/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// No model at all: every text is answered at once with its first sentence. Only for benchmarks of what is around
    /// the engine, and named [`NO_OP`] so that nobody comes upon it by accident.
    NoOp,
}

/// The name of [`ModelSource::NoOp`].
pub const NO_OP: &str = "benchmark:no-op";

/// Not the name of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no model: give `embedded`, a folder (with a `/` at its start or after a `.`), or `hub:owner/name@revision`"
)]
pub struct SourceError(String);

/// `embedded`, [`NO_OP`], `hub:owner/name`, `hub:owner/name@revision`, or a folder: anything that starts with `/`, `./`, `../` or
/// `path:`.
impl FromStr for ModelSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError(text.to_owned());
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        if text == NO_OP {
            return Ok(Self::NoOp);
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
                false => Err(wrong()),
            };
        }
        match text.strip_prefix("path:") {
            Some("") => Err(wrong()),
            Some(path) => Ok(Self::Path(path.into())),
            None if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) => {
                Ok(Self::Path(text.into()))
            }
            None => Err(wrong()),
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
        }
    }
}

/// The files of one model, found but not parsed.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    /// Short name, for logs and results.
    pub(crate) name: String,
    /// Commit of the hub; of a folder, the first 12 hex digits of a SHA-256 over all of its files that have a say in the
    /// results; of the embedded model, those of its weights' SHA-256.
    pub(crate) revision: String,
    /// `config.json`.
    pub(crate) config: Cow<'static, [u8]>,
    /// `generation_config.json`, if there is one.
    pub(crate) generation: Option<Cow<'static, [u8]>>,
    /// The tokenizer.
    pub(crate) tokenizer: TokenizerFile,
    /// The weights.
    pub(crate) weights: WeightFiles,
}

/// What a model's texts are cut into tokens by.
#[derive(Debug)]
pub(crate) enum TokenizerFile {
    /// `tokenizer.json`.
    Json(Cow<'static, [u8]>),
    /// `spiece.model`, where there is nothing else.
    SentencePiece {
        /// The file.
        model: Vec<u8>,
        /// `tokenizer_config.json`, which knows of the sentinels.
        config: Option<Vec<u8>>,
    },
}

/// Where the weights are.
#[derive(Debug)]
pub(crate) enum WeightFiles {
    /// In the binary.
    #[cfg_attr(not(feature = "embedded-model"), allow(dead_code))]
    // only the embedded model has its bytes at hand
    Embedded(&'static [u8]),
    /// In one file or several shards, to be mapped.
    Files(Vec<PathBuf>),
}

/// Finds the files of `source`; downloads what the hub's cache does not have. None where there is no model. `newest` asks
/// the hub which commit a branch is at by now.
pub(crate) fn find(source: &ModelSource, newest: bool) -> Result<Option<ModelFiles>> {
    match source {
        ModelSource::Embedded => crate::embedded::files().map(Some),
        ModelSource::Path(folder) => in_folder(folder).map(Some),
        ModelSource::Hub { id, revision } => crate::hub::files(id, revision, newest).map(Some),
        ModelSource::NoOp => Ok(None),
    }
}

const SAFETENSORS: &str =
    "this engine reads Hugging Face folders with safetensors weights and a tokenizer.json or a spiece.model";

fn in_folder(folder: &Path) -> Result<ModelFiles> {
    let missing = |file: &str| LoadError::MissingFile {
        file: file.to_owned(),
        place: folder.display().to_string(),
        hint: SAFETENSORS,
    };
    let required = |file: &str| read(&folder.join(file))?.ok_or_else(|| missing(file));
    let config = required("config.json")?;
    let generation = read(&folder.join("generation_config.json"))?;
    let tokenizer = match read(&folder.join("tokenizer.json"))? {
        Some(json) => TokenizerFile::Json(json.into()),
        None => TokenizerFile::SentencePiece {
            model: read(&folder.join("spiece.model"))?.ok_or_else(|| missing("tokenizer.json"))?,
            config: read(&folder.join("tokenizer_config.json"))?,
        },
    };
    let single = folder.join("model.safetensors");
    let files = if single.is_file() {
        vec![single]
    } else {
        let index = read(&folder.join("model.safetensors.index.json"))?
            .ok_or_else(|| missing("model.safetensors"))?;
        let shards = shard_names(&index)?;
        for shard in &shards {
            if !folder.join(shard).is_file() {
                return Err(missing(shard));
            }
        }
        shards.into_iter().map(|shard| folder.join(shard)).collect()
    };
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    Ok(ModelFiles {
        name: name
            .file_name()
            .map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned()),
        revision: hash_all(&config, generation.as_deref(), &tokenizer, &files)?,
        config: config.into(),
        generation: generation.map(Cow::from),
        tokenizer,
        weights: WeightFiles::Files(files),
    })
}

/// The whole file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LoadError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The file names in `model.safetensors.index.json`, each once, in order.
pub(crate) fn shard_names(index: &[u8]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let wrong = |reason: String| LoadError::Config {
        file: "model.safetensors.index.json",
        reason,
    };
    let index: Index = serde_json::from_slice(index).map_err(|error| wrong(error.to_string()))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(wrong("it names no file".to_owned()));
    }
    // A name comes from a file that somebody else wrote, and must stay inside the folder.
    match names
        .iter()
        .find(|name| name.contains(['/', '\\']) || name.starts_with('.'))
    {
        Some(name) => Err(wrong(format!("{name:?} is not a plain file name"))),
        None => Ok(names.into_iter().collect()),
    }
}

/// The first 12 hex digits of the SHA-256 of bytes.
#[cfg_attr(not(feature = "embedded-model"), allow(dead_code))] // only the embedded model has its bytes at hand
pub(crate) fn hash_bytes(bytes: &[u8]) -> String {
    prefix(Sha256::new().chain_update(bytes))
}

/// The first 12 hex digits of a SHA-256 over everything that a model is made of, so that a change of its tokenizer or of
/// its defaults is another revision as well.
fn hash_all(
    config: &[u8],
    generation: Option<&[u8]>,
    tokenizer: &TokenizerFile,
    weights: &[PathBuf],
) -> Result<String> {
    let mut hash = Sha256::new();
    // The length before the bytes: what moves from one file to the next is a change.
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(config);
    add(generation.unwrap_or_default());
    match tokenizer {
        TokenizerFile::Json(json) => add(json),
        TokenizerFile::SentencePiece { model, config } => {
            add(model);
            add(config.as_deref().unwrap_or_default());
        }
    }
    let mut buffer = vec![0; 1 << 20];
    for path in weights {
        let wrong = |source| LoadError::Io {
            path: path.clone(),
            source,
        };
        let mut file = std::fs::File::open(path).map_err(wrong)?;
        loop {
            match file.read(&mut buffer).map_err(wrong)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
    }
    Ok(prefix(hash))
}

fn prefix(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed_and_printed_alike() {
        for text in [
            "embedded",
            NO_OP,
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

    #[test]
    fn shards_stay_in_their_folder() {
        let names =
            shard_names(br#"{"weight_map":{"a":"2.safetensors","b":"1.safetensors","c":"2.safetensors"}}"#);
        assert_eq!(names.unwrap(), ["1.safetensors", "2.safetensors"]);
        for index in [
            r#"{"weight_map":{"a":"../x"}}"#,
            r#"{"weight_map":{"a":"/etc/x"}}"#,
            r#"{"weight_map":{}}"#,
            "{}",
        ] {
            assert!(shard_names(index.as_bytes()).is_err(), "{index}");
        }
    }

    #[test]
    fn another_file_is_another_revision() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            ("model.safetensors", "weights"),
        ];
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        files.iter().for_each(|(name, text)| write(name, text));
        let revision = || in_folder(folder.path()).unwrap().revision;
        let first = revision();
        assert_eq!(revision(), first);
        let mut seen = vec![first];
        for name in [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "generation_config.json",
        ] {
            write(name, "another");
            seen.push(revision());
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "{seen:?}");
    }

    #[test]
    fn the_hash_is_that_of_sha256() {
        assert_eq!(hash_bytes(b"abc"), "ba7816bf8f01");
    }
}
