//! Text to token ids, exactly as the model was trained, and back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokenizers::Tokenizer;

use crate::config::T5Config;
use crate::error::{LoadError, Result, RowError};
use crate::sentencepiece;
use crate::source::TokenizerFile;

/// The prompt prefix of a model whose configuration names none.
pub const DEFAULT_PREFIX: &str = "summarize: ";

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids: the prompt prefix, the text, the end token; at most `max_input_tokens`.
    pub ids: Vec<u32>,
    /// Tokens before truncation, prefix and end token included.
    pub tokens: usize,
    /// Tokens that were cut off the end.
    pub truncated_tokens: usize,
}

/// Texts to ids and back, as one engine does it.
pub(crate) trait Tokenize: Send + Sync {
    /// Most ids of an encoded text.
    fn max_input_tokens(&self) -> usize;
    /// Encodes a text with whatever belongs before and after it; too long a text is cut.
    fn encode(&self, text: &str) -> Result<Encoded, RowError>;
    /// The text of ids, without special tokens and without white space around it.
    fn decode(&self, ids: &[u32]) -> Result<String, RowError>;
}

/// `extra_ids` of `tokenizer_config.json`.
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

/// The tokenizer of one model with its prompt.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    prefix: String,
    max_input_tokens: usize,
    eos: u32,
}

impl TextTokenizer {
    /// Reads the file and checks it against the model.
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
        // A file may bring its own truncation and padding along; both are done here.
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

    /// What is put before every text.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Tokenize for TextTokenizer {
    fn max_input_tokens(&self) -> usize {
        self.max_input_tokens
    }

    /// Encodes the prefix and the text; too long a text is cut to `ids[..max - 1]` and the end token.
    fn encode(&self, text: &str) -> Result<Encoded, RowError> {
        let prompt = format!("{}{text}", self.prefix);
        let encode = || self.tokenizer.encode_fast(prompt, true);
        let encoding = guarded(encode).map_err(RowError::Tokenize)?;
        let mut ids = encoding.get_ids().to_vec();
        // Every T5 tokenizer adds the end token; a file without that template would leave the input open.
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

/// Whether every map of characters is as long as it says. Its reader takes that for granted, and asks for as much memory: a
/// process that doesn't get it ends there and then.
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
                        .map_err(|error| format!("the map of characters: {error}"))?;
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

/// What a tokenizer does with a file that somebody else wrote may be anything: a panic is an error as well.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizer panicked: its file is damaged".to_owned()),
    }
}
