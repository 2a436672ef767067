//! Models on this machine: a folder in Hugging Face's layout, or a GGUF file.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::files::{
    ChatFiles, ModelFiles, TokenizerFile, WeightFiles, hash_all, hash_file, read, shard_names,
};
use crate::config;
use crate::error::{LoadError, Result};
use crate::gguf;

const SAFETENSORS: &str = "this engine reads GGUF files, and Hugging Face folders with safetensors weights and a \
     tokenizer.json or a spiece.model";

/// Returns the name of a model: that of its folder, or of its file without the ending.
pub(super) fn name(folder: &Path) -> String {
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = match is_gguf(&resolved) {
        true => resolved.file_stem(),
        false => resolved.file_name(),
    };
    let name = name.map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "model".to_owned())
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// Returns the only GGUF file of a folder without a `config.json`.
fn only_gguf(folder: &Path) -> Option<PathBuf> {
    if folder.join("config.json").exists() {
        return None;
    }
    let files = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let mut files = files.filter(|path| is_gguf(path));
    match (files.next(), files.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// Reads the description of a GGUF file.
fn gguf_file(path: &Path) -> Result<ModelFiles> {
    let description = gguf::describe(path)?;
    Ok(ModelFiles {
        name: name(path),
        revision: hash_file(path)?,
        config: description.config.into(),
        generation: Some(description.generation.into()),
        tokenizer: TokenizerFile::Json(description.tokenizer.into()),
        chat: ChatFiles {
            config: Some(description.tokenizer_config),
            template: None,
        },
        weights: WeightFiles::Gguf(path.to_owned()),
    })
}

/// Reads the files that only decoder-only models have.
fn chat_files(folder: &Path, config: &[u8]) -> Result<ChatFiles> {
    if !config::is_causal(config) {
        return Ok(ChatFiles::default());
    }
    let template = read(&folder.join("chat_template.jinja"))?;
    Ok(ChatFiles {
        config: read(&folder.join("tokenizer_config.json"))?,
        template: template.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    })
}

/// Locates the files of a model: those of a folder, or what a GGUF file contains.
///
/// # Errors
/// A missing or unreadable file.
pub(super) fn files(folder: &Path) -> Result<ModelFiles> {
    if folder.is_file() && is_gguf(folder) {
        return gguf_file(folder);
    }
    if let Some(file) = only_gguf(folder) {
        return gguf_file(&file);
    }
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
    let chat = chat_files(folder, &config)?;
    Ok(ModelFiles {
        name: name(folder),
        revision: hash_all(&config, generation.as_deref(), &tokenizer, &chat, &files)?,
        config: config.into(),
        generation: generation.map(Cow::from),
        tokenizer,
        chat,
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
