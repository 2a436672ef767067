//! Models in GGUF files, the format of llama.cpp.
//!
//! candle reads the file and its block formats. This module translates the rest to Hugging Face's terms: the metadata
//! to a `config.json` (`config.rs`) and a `tokenizer.json` (`tokenizer.rs`), and tensor names and layouts
//! (`tensors.rs`). Everything after that treats such a model like any other.

mod config;
mod tensors;
mod tokenizer;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::json;

use crate::error::{LoadError, Result};
pub(crate) use tensors::GgufTensors;

/// What a file says about its model, in Hugging Face's terms.
#[derive(Debug)]
pub(crate) struct Description {
    /// `config.json`.
    pub(crate) config: Vec<u8>,
    /// `generation_config.json`.
    pub(crate) generation: Vec<u8>,
    /// `tokenizer.json`.
    pub(crate) tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, with the chat template.
    pub(crate) tokenizer_config: Vec<u8>,
}

/// Reads a file's metadata.
///
/// # Errors
/// A damaged file, an architecture or tokenizer that is not supported, missing metadata.
pub(crate) fn describe(path: &Path) -> Result<Description> {
    let (content, mut file) = open(path)?;
    let metadata = Metadata {
        values: &content.metadata,
    };
    let wrong = |reason| LoadError::Gguf {
        path: path.to_owned(),
        reason,
    };
    let config = config::config(&metadata, &content, &mut file)?;
    let vocabulary = tokenizer::Vocabulary::read(&metadata).map_err(wrong)?;
    let tokenizer = vocabulary.tokenizer(&metadata).map_err(wrong)?;
    let token = |name: &str| {
        let id = metadata.whole(&format!("tokenizer.ggml.{name}"));
        id.and_then(|id| vocabulary.token(id))
    };
    let tokenizer_config = json!({
        "bos_token": token("bos_token_id"),
        "eos_token": token("eos_token_id"),
        "add_bos_token": metadata.flag("tokenizer.ggml.add_bos_token"),
        "chat_template": metadata.text("tokenizer.chat_template"),
    });
    let generation = json!({"eos_token_id": vocabulary.ends(&metadata)});
    Ok(Description {
        config: config.to_string().into_bytes(),
        generation: generation.to_string().into_bytes(),
        tokenizer: tokenizer.to_string().into_bytes(),
        tokenizer_config: tokenizer_config.to_string().into_bytes(),
    })
}

/// Opens a file and reads its header. candle panics on some damaged headers.
fn open(path: &Path) -> Result<(Content, BufReader<File>)> {
    let file = File::open(path).map_err(|source| LoadError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut file = BufReader::new(file);
    let read = catch_unwind(AssertUnwindSafe(|| Content::read(&mut file)));
    let reason = match read {
        Ok(Ok(content)) => return Ok((content, file)),
        Ok(Err(error)) => error.to_string().lines().next().unwrap_or_default().to_owned(),
        Err(_) => "the header is damaged".to_owned(),
    };
    Err(LoadError::Gguf {
        path: path.to_owned(),
        reason,
    })
}

/// The metadata of a file.
struct Metadata<'a> {
    values: &'a HashMap<String, Value>,
}

impl Metadata<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn whole(&self, name: &str) -> Option<u64> {
        whole(self.values.get(name)?)
    }

    fn number(&self, name: &str) -> Option<f64> {
        match self.values.get(name)? {
            Value::F32(number) => Some(f64::from(*number)),
            Value::F64(number) => Some(*number),
            value => whole(value).map(|whole| whole as f64),
        }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match self.values.get(name) {
            Some(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Option<&[Value]> {
        match self.values.get(name) {
            Some(Value::Array(values)) => Some(values),
            _ => None,
        }
    }

    fn texts(&self, name: &str) -> Option<Vec<&str>> {
        let texts = self.list(name)?.iter().map(|value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

/// Returns a whole number of any width.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::U8(number) => Some(u64::from(*number)),
        Value::U16(number) => Some(u64::from(*number)),
        Value::U32(number) => Some(u64::from(*number)),
        Value::U64(number) => Some(*number),
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
