//! Models in a local folder, in Hugging Face's layout.

use std::borrow::Cow;
use std::path::Path;

use super::files::{ModelFiles, TokenizerFile, WeightFiles, hash_all, read, shard_names};
use crate::error::{LoadError, Result};

const SAFETENSORS: &str =
    "this engine reads Hugging Face folders with safetensors weights and a tokenizer.json or a spiece.model";

/// Returns the name of a folder's model: that of the folder.
pub(super) fn name(folder: &Path) -> String {
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = resolved
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "model".to_owned())
}

/// Locates the files of a model folder.
///
/// # Errors
/// A missing or unreadable file.
pub(super) fn files(folder: &Path) -> Result<ModelFiles> {
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
    Ok(ModelFiles {
        name: name(folder),
        revision: hash_all(&config, generation.as_deref(), &tokenizer, &files)?,
        config: config.into(),
        generation: generation.map(Cow::from),
        tokenizer,
        weights: WeightFiles::Files(files),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn changing_any_file_changes_the_revision() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            ("model.safetensors", "weights"),
        ];
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        files.iter().for_each(|(name, text)| write(name, text));
        let revision = || super::files(folder.path()).unwrap().revision;
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
}
