//! Conversion between text and token ids, exactly as the model was trained.

mod chat;
mod prompt;

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokenizers::Tokenizer;

use self::chat::TokenizerConfig;
pub use self::prompt::Prompt;
use self::prompt::Prompts;
use crate::config::ModelConfig;
use crate::error::{LoadError, Result, RowError};
use crate::sentencepiece;
use crate::source::{ChatFiles, TokenizerFile};

/// Prompt prefix of models whose configuration names none.
pub const DEFAULT_PREFIX: &str = "summarize: ";

/// Most tokens of an incomplete character: one for each byte but the last.
const MAX_MISSING_TOKENS: usize = 3;

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

    /// Like [`decode`](Self::decode) for ids that others may follow: leaves out the last character while some of its
    /// bytes are missing.
    fn decode_so_far(&self, ids: &[u32]) -> Result<String, RowError> {
        let all = self.decode(ids)?;
        let mut text = all.clone();
        for cut in 1..=MAX_MISSING_TOKENS.min(ids.len()) {
            if !text.ends_with(char::REPLACEMENT_CHARACTER) {
                return Ok(text);
            }
            text = self.decode(&ids[..ids.len() - cut])?;
        }
        // The bytes of the ids are no text, whatever follows.
        Ok(if text.ends_with(char::REPLACEMENT_CHARACTER) {
            all
        } else {
            text
        })
    }
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

/// A model's tokenizer with its prompt.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    format: Format,
    max_input_tokens: usize,
}

/// What surrounds a text.
enum Format {
    /// A prefix and the end token, for encoders.
    Prefixed { prefix: String, eos: u32 },
    /// A conversation, for decoder-only models.
    Prompted(Box<Prompts>),
}

impl TextTokenizer {
    /// Parses the files and checks them against the model's configuration. `prompt` applies to decoder-only models.
    pub(crate) fn new(
        file: &TokenizerFile,
        chat: &ChatFiles,
        config: &ModelConfig,
        prompt: &Prompt,
        max_input_tokens: usize,
    ) -> Result<Self> {
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
                sentencepiece::tokenizer(model, extra_ids, config.vocabulary()).map_err(|reason| {
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
            && highest as usize >= config.vocabulary()
        {
            return Err(LoadError::TokenizerVocabulary {
                highest,
                vocabulary: config.vocabulary(),
            });
        }
        let format = match config {
            ModelConfig::T5(config) => {
                let prefix = config
                    .summarization
                    .get("prefix")
                    .and_then(serde_json::Value::as_str);
                Format::Prefixed {
                    prefix: prefix.unwrap_or(DEFAULT_PREFIX).to_owned(),
                    eos: config.eos_token_ids[0],
                }
            }
            ModelConfig::Causal(_) => {
                let config = TokenizerConfig::parse(chat.config.as_deref())?;
                let bos = config.bos_token().filter(|_| config.add_bos_token == Some(true));
                let bos = bos.and_then(|bos| tokenizer.token_to_id(bos));
                let template = config.into_template(chat.template.clone())?;
                let prompts = Prompts::new(prompt.clone(), template, bos, &tokenizer, max_input_tokens)?;
                Format::Prompted(Box::new(prompts))
            }
        };
        Ok(Self {
            tokenizer,
            format,
            max_input_tokens,
        })
    }

    /// Returns the prompt prefix of an encoder.
    pub(crate) fn prefix(&self) -> &str {
        match &self.format {
            Format::Prefixed { prefix, .. } => prefix,
            Format::Prompted(_) => "",
        }
    }
}

impl Tokenize for TextTokenizer {
    fn max_input_tokens(&self) -> usize {
        self.max_input_tokens
    }

    /// Truncation keeps the first `max_input_tokens - 1` ids and adds the end token.
    fn encode(&self, text: &str) -> Result<Encoded, RowError> {
        let (prefix, eos) = match &self.format {
            Format::Prefixed { prefix, eos } => (prefix, *eos),
            Format::Prompted(prompts) => return prompts.encode(&self.tokenizer, text),
        };
        let prompt = format!("{prefix}{text}");
        let encode = || self.tokenizer.encode_fast(prompt, true);
        let encoding = guarded(encode).map_err(RowError::Tokenize)?;
        let mut ids = encoding.get_ids().to_vec();
        // Some tokenizer files lack the template that adds the end token.
        if ids.last() != Some(&eos) {
            ids.push(eos);
        }
        let tokens = ids.len();
        if tokens > self.max_input_tokens {
            ids.truncate(self.max_input_tokens - 1);
            ids.push(eos);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tokenizer whose tokens are the bytes of UTF-8. With `fallback`, it decodes as SentencePiece models do, and
    /// otherwise as byte-level BPE does.
    fn of_bytes(fallback: bool) -> TextTokenizer {
        let mut vocabulary: serde_json::Map<String, serde_json::Value> = (0..=255_u32)
            .map(|byte| (format!("<0x{byte:02X}>"), byte.into()))
            .collect();
        let decoder = match fallback {
            true => {
                serde_json::json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})
            }
            false => {
                // Byte-level BPE writes each byte as a letter of its own.
                let letters = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
                let mut letters: Vec<char> = letters.into_iter().collect();
                letters.sort_unstable();
                let letters = letters.into_iter().enumerate();
                vocabulary = letters
                    .map(|(id, letter)| (letter.to_string(), id.into()))
                    .collect();
                serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                    "use_regex": true})
            }
        };
        let file = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "?"},
        });
        TextTokenizer {
            tokenizer: Tokenizer::from_bytes(file.to_string()).unwrap(),
            format: Format::Prefixed {
                prefix: String::new(),
                eos: 1,
            },
            max_input_tokens: 512,
        }
    }

    /// Returns the ids of a text, one for each byte.
    fn ids_of(tokenizer: &TextTokenizer, fallback: bool, text: &str) -> Vec<u32> {
        let vocabulary = tokenizer.tokenizer.get_vocab(false);
        if fallback {
            return text.bytes().map(u32::from).collect();
        }
        // `encode` would split words; the letters are mapped here instead.
        let bytes = text.bytes();
        bytes
            .map(|byte| vocabulary[&letter_of(byte).to_string()])
            .collect()
    }

    /// Returns the letter that byte-level BPE writes for a byte.
    fn letter_of(byte: u8) -> char {
        let is_own = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        if is_own(byte) {
            return char::from(byte);
        }
        let earlier = (0..byte).filter(|byte| !is_own(*byte)).count();
        char::from_u32(256 + earlier as u32).unwrap()
    }

    fn texts_so_far_grow(fallback: bool, text: &str) {
        let tokenizer = of_bytes(fallback);
        let ids = ids_of(&tokenizer, fallback, text);
        assert_eq!(tokenizer.decode(&ids).unwrap(), text.trim());
        let mut last = 0;
        for end in 0..=ids.len() {
            let so_far = tokenizer.decode_so_far(&ids[..end]).unwrap();
            assert!(text.trim().starts_with(&so_far), "{so_far:?} of {text:?}");
            assert!(so_far.len() >= last, "{so_far:?} of {text:?}");
            last = so_far.len();
        }
        assert_eq!(last, text.trim().len());
    }

    #[test]
    fn an_incomplete_character_is_left_out() {
        for fallback in [true, false] {
            for text in ["Rain 🌧️ fell.", "雨が降った", "🌧🌧🌧", "é", "plain"] {
                texts_so_far_grow(fallback, text);
            }
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_shown_as_in_the_result() {
        let tokenizer = of_bytes(true);
        let ids = [u32::from(b'a'), 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            tokenizer.decode_so_far(&ids).unwrap(),
            tokenizer.decode(&ids).unwrap()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn texts_so_far_are_growing_prefixes(text in "[a-zé雨🌧 ]{0,24}", fallback: bool) {
            texts_so_far_grow(fallback, &text);
        }
    }
}
