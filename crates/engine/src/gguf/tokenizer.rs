//! The vocabulary of a GGUF file as a `tokenizer.json`.

use serde_json::{Map, Value, json};

use super::{Metadata, whole};

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Words of Llama 3's pre-tokenizer. The digits differ in Qwen2's.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Tokens that end a turn. Files that lack `tokenizer.ggml.eot_token_id` still have them as control tokens.
const ENDS_OF_TURN: [&str; 5] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

/// The tokens of a file.
pub(super) struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    types: Vec<u64>,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn read(metadata: &'a Metadata<'a>) -> Result<Self, String> {
        let tokens = metadata
            .texts("tokenizer.ggml.tokens")
            .ok_or("it has no vocabulary")?;
        let types = metadata.list("tokenizer.ggml.token_type").unwrap_or_default();
        Ok(Self {
            tokens,
            types: types.iter().map(|kind| whole(kind).unwrap_or(0)).collect(),
        })
    }

    /// Returns the text of a token.
    pub(super) fn token(&self, id: u64) -> Option<&'a str> {
        self.tokens.get(usize::try_from(id).ok()?).copied()
    }

    fn kind(&self, id: usize) -> u64 {
        self.types.get(id).copied().unwrap_or(0)
    }

    /// Returns the ids that end a text: those that the file names, and the known ends of a turn.
    pub(super) fn ends(&self, metadata: &Metadata<'_>) -> Vec<u64> {
        let named = ["eos_token_id", "eot_token_id", "eom_token_id"];
        let mut ends: Vec<u64> = named
            .iter()
            .filter_map(|name| metadata.whole(&format!("tokenizer.ggml.{name}")))
            .collect();
        let known = |(id, token): (usize, &&str)| {
            (self.kind(id) == CONTROL && ENDS_OF_TURN.contains(token)).then_some(id as u64)
        };
        for id in self.tokens.iter().enumerate().filter_map(known) {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        ends
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// A kind of tokenizer that is not supported, in words.
    pub(super) fn tokenizer(&self, metadata: &Metadata<'_>) -> Result<Value, String> {
        let model = metadata.text("tokenizer.ggml.model").unwrap_or("(none)");
        if model != "gpt2" {
            return Err(format!(
                "its tokenizer of kind {model:?} is not supported, only byte-level BPE (gpt2)"
            ));
        }
        let pre = metadata.text("tokenizer.ggml.pre").unwrap_or("default");
        let words = Words::of(pre).ok_or_else(|| format!("its pre-tokenizer {pre:?} is not supported"))?;
        let merges = metadata
            .texts("tokenizer.ggml.merges")
            .ok_or("it has no merges")?;
        let merges: Option<Vec<[&str; 2]>> = merges
            .iter()
            .map(|merge| merge.split_once(' ').map(|(left, right)| [left, right]))
            .collect();
        let merges = merges.ok_or("a merge is not a pair of tokens")?;
        let vocabulary: Map<String, Value> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(id, token)| ((*token).to_owned(), id.into()))
            .collect();
        let added: Vec<Value> = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(id, _)| matches!(self.kind(*id), CONTROL | USER_DEFINED))
            .map(|(id, token)| {
                json!({"id": id, "content": token, "special": self.kind(id) == CONTROL, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false})
            })
            .collect();
        let byte_level = |splits: bool| {
            let own = json!({"add_prefix_space": false, "trim_offsets": true, "use_regex": splits});
            typed("ByteLevel", own)
        };
        let split = |pattern: &str| {
            let own = json!({"pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
            typed("Split", own)
        };
        let pre_tokenizers = match words {
            Words::Gpt2 => vec![byte_level(true)],
            Words::Digits => {
                vec![
                    json!({"type": "Digits", "individual_digits": true}),
                    byte_level(true),
                ]
            }
            Words::Llama3 => vec![split(LLAMA3), byte_level(false)],
            Words::Qwen2 => vec![split(QWEN2), byte_level(false)],
        };
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": if words == Words::Qwen2 { json!({"type": "NFC"}) } else { Value::Null },
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers},
            "post_processor": null,
            "decoder": byte_level(true),
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": words == Words::Llama3, "vocab": vocabulary, "merges": merges},
        }))
    }
}

/// Adds the type to the settings of a part of the tokenizer.
fn typed(kind: &str, mut settings: Value) -> Value {
    settings["type"] = kind.into();
    settings
}

/// How a text is split before byte pairs are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Gpt2,
    /// As `Gpt2`, with each digit alone.
    Digits,
    Llama3,
    Qwen2,
}

impl Words {
    /// Returns the split that `tokenizer.ggml.pre` names.
    fn of(pre: &str) -> Option<Self> {
        match pre {
            "default" | "gpt-2" | "gpt2" => Some(Self::Gpt2),
            "smollm" | "starcoder" | "refact" | "command-r" => Some(Self::Digits),
            "llama-bpe" | "llama3" | "llama-v3" => Some(Self::Llama3),
            "qwen2" => Some(Self::Qwen2),
            _ => None,
        }
    }
}
