//! Conversion between text and token ids, exactly as the model was trained.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokenizers::Tokenizer;

use crate::config::T5Config;
use crate::error::{LoadError, Result, RowError};
use crate::sentencepiece;
use crate::source::TokenizerFile;

/// Prompt prefix of models whose configuration names none.
pub const DEFAULT_PREFIX: &str = "summarize: ";

/// An encoded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids: the prompt prefix, the text, the end token; at most `max_input_tokens`.
    pub ids: Vec<u32>,
    /// Tokens before truncation, including prefix and end token.
    pub tokens: usize,
    /// Tokens removed by truncation.
    pub truncated_tokens: usize,
}

/// Converts text to ids and back.
pub(crate) trait Tokenize: Send + Sync {
    /// Maximum ids of an encoded text.
    fn max_input_tokens(&self) -> usize;
    /// Encodes a text with prefix and end token, truncated if too long.
    fn encode(&self, text: &str) -> Result<Encoded, RowError>;
    /// Decodes ids to text, without special tokens and surrounding white space.
    fn decode(&self, ids: &[u32]) -> Result<String, RowError>;
}

/// Reads `extra_ids` from `tokenizer_config.json`.
fn extra_ids(config: &[u8]) -> Result<Option<usize>> {
    #[derive(serde::Deserialize)]
    struct Own {
        extra_ids: Option<usize>,
    }
    let own: Own = serde_json::from_slice(config).map_err(|error| LoadError::Config {
        file: "tokenizer_config.json",
        reason: error.to_string(),
    })?;
    Ok(own.extra_ids)
}

/// A model's tokenizer with its prompt prefix.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    prefix: String,
    max_input_tokens: usize,
    eos: u32,
}

impl TextTokenizer {
    /// Parses the file and checks it against the model's configuration.
    pub(crate) fn new(file: &TokenizerFile, config: &T5Config, max_input_tokens: usize) -> Result<Self> {
        let wrong = |error: tokenizers::Error| LoadError::Tokenizer {
            file: "tokenizer.json",
            reason: error.to_string(),
        };
        let mut tokenizer = match file {
            TokenizerFile::Json(json) => {
                let read = check_charsmaps(json).and_then(|()| guarded(|| Tokenizer::from_bytes(json)));
                read.map_err(|reason| LoadError::Tokenizer {
                    file: "tokenizer.json",
                    reason,
                })?
            }
            TokenizerFile::SentencePiece { model, config: own } => {
                let extra_ids = own.as_deref().map(extra_ids).transpose()?.flatten();
                sentencepiece::tokenizer(model, extra_ids, config.vocab_size).map_err(|reason| {
                    LoadError::Tokenizer {
                        file: "spiece.model",
                        reason,
                    }
                })?
            }
        };
        // Truncation and padding settings of the file do not apply: this crate does both.
        tokenizer.with_truncation(None).map_err(wrong)?;
        tokenizer.with_padding(None);
        if let Some(highest) = tokenizer.get_vocab(true).into_values().max()
            && highest as usize >= config.vocab_size
        {
            return Err(LoadError::TokenizerVocabulary {
                highest,
                vocabulary: config.vocab_size,
            });
        }
        let prefix = config
            .summarization
            .get("prefix")
            .and_then(serde_json::Value::as_str);
        Ok(Self {
            tokenizer,
            prefix: prefix.unwrap_or(DEFAULT_PREFIX).to_owned(),
            max_input_tokens,
            eos: config.eos_token_ids[0],
        })
    }

    /// Returns the prompt prefix.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Tokenize for TextTokenizer {
    fn max_input_tokens(&self) -> usize {
        self.max_input_tokens
    }

    /// Truncation keeps the first `max_input_tokens - 1` ids and adds the end token.
    fn encode(&self, text: &str) -> Result<Encoded, RowError> {
        let prompt = format!("{}{text}", self.prefix);
        let encode = || self.tokenizer.encode_fast(prompt, true);
        let encoding = guarded(encode).map_err(RowError::Tokenize)?;
        let mut ids = encoding.get_ids().to_vec();
        // Some tokenizer files lack the template that adds the end token.
        if ids.last() != Some(&self.eos) {
            ids.push(self.eos);
        }
        let tokens = ids.len();
        if tokens > self.max_input_tokens {
            ids.truncate(self.max_input_tokens - 1);
            ids.push(self.eos);
        }
        Ok(Encoded {
            truncated_tokens: tokens - ids.len(),
            ids,
            tokens,
        })
    }

    fn decode(&self, ids: &[u32]) -> Result<String, RowError> {
        let text = guarded(|| self.tokenizer.decode(ids, true)).map_err(RowError::Decode)?;
        Ok(text.trim().to_owned())
    }
}

/// Checks the declared length of every character map. The reader of the `tokenizers` crate trusts it and allocates as
/// much, which aborts the process if the file is damaged.
fn check_charsmaps(json: &[u8]) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct File {
        normalizer: Option<serde_json::Value>,
    }
    fn check(value: &serde_json::Value) -> Result<(), String> {
        match value {
            serde_json::Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
                serde_json::Value::String(map) if name == "precompiled_charsmap" => {
                    let map = BASE64
                        .decode(map)
                        .map_err(|error| format!("precompiled_charsmap: {error}"))?;
                    sentencepiece::check_charsmap(&map)
                }
                value => check(value),
            }),
            serde_json::Value::Array(values) => values.iter().try_for_each(check),
            _ => Ok(()),
        }
    }
    let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    file.normalizer.as_ref().map_or(Ok(()), check)
}

/// Turns panics into errors: a damaged tokenizer file can make the `tokenizers` crate panic.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizer panicked: its file is damaged".to_owned()),
    }
}
