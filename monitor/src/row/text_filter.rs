//! Applies the text policy: whole texts, truncated texts, hashes, or nothing.

use precis_runtime::config::{MonitorConfig, TextPolicy};
use sha2::{Digest, Sha256};

/// Applies `monitor.texts` to the texts of a prediction before it is stored. Scores are computed earlier, from whole
/// texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextFilter {
    /// The policy.
    pub policy: TextPolicy,
    /// Most characters of a text under [`TextPolicy::Truncated`].
    pub max_chars: usize,
}

impl TextFilter {
    /// Creates the filter that the configuration describes.
    pub fn new(settings: &MonitorConfig) -> Self {
        Self {
            policy: settings.texts,
            max_chars: settings.text_chars,
        }
    }

    /// Returns the name of the policy, as in the column `text_policy`.
    pub fn name(self) -> &'static str {
        match self.policy {
            TextPolicy::Full => "full",
            TextPolicy::Truncated => "truncated",
            TextPolicy::Hash => "hash",
            TextPolicy::None => "none",
        }
    }

    /// Whether embeddings are stored. They reveal something about their texts, so the policy `none` drops them.
    pub fn keeps_embeddings(self) -> bool {
        self.policy != TextPolicy::None
    }

    /// Returns what is stored of `text`. An empty text stays empty, so that it differs from a hashed one.
    pub fn apply(self, text: &str) -> String {
        match self.policy {
            _ if text.is_empty() => String::new(),
            TextPolicy::Full => text.to_owned(),
            TextPolicy::Truncated => match text.char_indices().nth(self.max_chars) {
                Some((end, _)) => text[..end].to_owned(),
                None => text.to_owned(),
            },
            TextPolicy::Hash => Sha256::digest(text.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            TextPolicy::None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_keep_truncate_hash_or_drop_texts() {
        let apply = |policy, text: &str| TextFilter { policy, max_chars: 3 }.apply(text);
        assert_eq!(apply(TextPolicy::Full, "Zürich"), "Zürich");
        assert_eq!(apply(TextPolicy::Truncated, "Zürich"), "Zür");
        assert_eq!(apply(TextPolicy::Truncated, "Zür"), "Zür");
        assert_eq!(apply(TextPolicy::None, "Zürich"), "");
        assert_eq!(
            apply(TextPolicy::Hash, "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(apply(TextPolicy::Hash, ""), "");
    }
}
