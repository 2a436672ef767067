//! The files that make up a model.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{LoadError, Result};

/// The files of one model, located but not parsed.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    /// Short name, for logs and results.
    pub(crate) name: String,
    /// A hub model's commit. A folder's first 12 hex digits of the SHA-256 over all files that affect results. The
    /// embedded model's first 12 hex digits of its weights' SHA-256.
    pub(crate) revision: String,
    /// `config.json`.
    pub(crate) config: Cow<'static, [u8]>,
    /// `generation_config.json`, if present.
    pub(crate) generation: Option<Cow<'static, [u8]>>,
    /// The tokenizer.
    pub(crate) tokenizer: TokenizerFile,
    /// How a decoder-only model sees a conversation.
    pub(crate) chat: ChatFiles,
    /// The weights.
    pub(crate) weights: WeightFiles,
}

/// The files that say how a decoder-only model sees a conversation.
#[derive(Debug, Default)]
pub(crate) struct ChatFiles {
    /// `tokenizer_config.json`.
    pub(crate) config: Option<Vec<u8>>,
    /// `chat_template.jinja`, which replaces the template of `tokenizer_config.json`.
    pub(crate) template: Option<String>,
}

/// A tokenizer definition.
#[derive(Debug)]
pub(crate) enum TokenizerFile {
    /// `tokenizer.json`.
    Json(Cow<'static, [u8]>),
    /// `spiece.model`, for folders without `tokenizer.json`.
    SentencePiece {
        /// The file.
        model: Vec<u8>,
        /// `tokenizer_config.json`, which says how many sentinel tokens follow the pieces.
        config: Option<Vec<u8>>,
    },
}

/// Where the weights are.
#[derive(Debug)]
pub(crate) enum WeightFiles {
    /// In the binary.
    #[cfg_attr(not(feature = "embedded-model"), allow(dead_code))]
    Embedded(&'static [u8]),
    /// In one file or several shards, to be memory-mapped.
    Files(Vec<PathBuf>),
    /// In a GGUF file.
    Gguf(PathBuf),
}

/// Reads a whole file. Returns `None` if it does not exist.
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

/// Returns the distinct file names in `model.safetensors.index.json`, sorted.
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
        return Err(wrong("the index lists no file".to_owned()));
    }
    // The index is untrusted: a name must not escape the folder.
    match names
        .iter()
        .find(|name| name.contains(['/', '\\']) || name.starts_with('.'))
    {
        Some(name) => Err(wrong(format!("{name:?} is not a plain file name"))),
        None => Ok(names.into_iter().collect()),
    }
}

/// Returns the first 12 hex digits of the SHA-256 of `bytes`.
#[cfg_attr(not(feature = "embedded-model"), allow(dead_code))]
pub(crate) fn hash_bytes(bytes: &[u8]) -> String {
    prefix(Sha256::new().chain_update(bytes))
}

/// Returns the first 12 hex digits of a SHA-256 over all files of a model, so that a changed tokenizer or a changed
/// default is a new revision too.
pub(super) fn hash_all(
    config: &[u8],
    generation: Option<&[u8]>,
    tokenizer: &TokenizerFile,
    chat: &ChatFiles,
    weights: &[PathBuf],
) -> Result<String> {
    let mut hash = Sha256::new();
    // Hash each length too, so that bytes moved from one file to the next change the hash.
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
    for part in [
        chat.config.as_deref(),
        chat.template.as_deref().map(str::as_bytes),
    ] {
        part.into_iter().for_each(&mut add);
    }
    add_files(&mut hash, weights)?;
    Ok(prefix(hash))
}

/// Returns the first 12 hex digits of a file's SHA-256.
pub(super) fn hash_file(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    add_files(&mut hash, &[path.to_owned()])?;
    Ok(prefix(hash))
}

fn add_files(hash: &mut Sha256, paths: &[PathBuf]) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for path in paths {
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
    Ok(())
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
    fn shard_names_must_stay_inside_the_folder() {
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
    fn hash_is_a_prefix_of_sha256() {
        assert_eq!(hash_bytes(b"abc"), "ba7816bf8f01");
    }
}
