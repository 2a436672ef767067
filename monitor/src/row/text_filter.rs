//! How texts are kept in rows.

use precis_runtime::config::{MonitorConfig, TextPolicy};
use sha2::{Digest, Sha256};

/// What becomes of the texts of a prediction before it is stored. Scores are computed first, of whole texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Texts {
    /// The policy.
    pub policy: TextPolicy,
    /// Most characters of a text under [`TextPolicy::Truncated`].
    pub max_chars: usize,
}

impl Texts {
    /// What the configuration says.
    pub fn of(settings: &MonitorConfig) -> Self {
        Self {
            policy: settings.texts,
            max_chars: settings.text_chars,
        }
    }

    /// The name of the policy, as the rows have it.
    pub fn name(self) -> &'static str {
        match self.policy {
            TextPolicy::Full => "full",
            TextPolicy::Truncated => "truncated",
            TextPolicy::Hash => "hash",
            TextPolicy::None => "none",
        }
    }

    /// Whether vectors of the texts are stored: they say something of what they were made of.
    pub fn keeps_vectors(self) -> bool {
        self.policy != TextPolicy::None
    }

    /// What is stored of `text`. An empty text stays empty, so that a missing one is not taken for a text.
    pub fn kept(self, text: &str) -> String {
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
    fn each_policy_keeps_what_it_says() {
        let kept = |policy, text: &str| Texts { policy, max_chars: 3 }.kept(text);
        assert_eq!(kept(TextPolicy::Full, "Zürich"), "Zürich");
        assert_eq!(kept(TextPolicy::Truncated, "Zürich"), "Zür");
        assert_eq!(kept(TextPolicy::Truncated, "Zür"), "Zür");
        assert_eq!(kept(TextPolicy::None, "Zürich"), "");
        assert_eq!(
            kept(TextPolicy::Hash, "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(kept(TextPolicy::Hash, ""), "");
    }
}
