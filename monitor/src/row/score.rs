//! What can be said of a summary: against a human's, and of itself.

use precis_scoring::{Rouge, RougeScores, Signals, bleu, signals};

/// Most characters of a text whose signals are computed: they look for common passages, which takes the product of the
/// lengths in the worst case.
const MAX_SIGNAL_CHARS: usize = 200_000;

/// Scores summaries as the rows keep them.
#[derive(Debug, Clone)]
pub struct Scorer {
    plain: Rouge,
    stemmed: Rouge,
}

impl Default for Scorer {
    fn default() -> Self {
        Self {
            plain: Rouge::new(false),
            stemmed: Rouge::new(true),
        }
    }
}

/// A summary against its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// ROUGE without stemming.
    pub rouge: RougeScores,
    /// ROUGE with the Porter stemmer.
    pub stemmed: RougeScores,
    /// BLEU, 0 to 100.
    pub bleu: f64,
}

impl Scorer {
    /// Scores of `summary` against `reference`; none when there is nothing to compare with, or the two are too long to
    /// be compared in bounded time.
    pub fn scores(&self, reference: &str, summary: &str) -> Option<Scores> {
        if reference.trim().is_empty() {
            return None;
        }
        let rouge = match self.plain.try_score(reference, summary, Rouge::DEFAULT_LIMIT) {
            Ok(rouge) => rouge,
            Err(error) => {
                tracing::debug!(%error, "a summary is not scored");
                return None;
            }
        };
        Some(Scores {
            rouge,
            // Stemming changes tokens, not how many there are: the limit holds for it, too.
            stemmed: self.stemmed.score(reference, summary),
            bleu: bleu(reference, summary).score,
        })
    }

    /// Signals of `summary` that need no reference; none without its text, or when one of them is very long.
    pub fn signals(&self, text: &str, summary: &str) -> Option<Signals> {
        let short = text.len() <= 4 * MAX_SIGNAL_CHARS && summary.len() <= MAX_SIGNAL_CHARS;
        (short && !text.is_empty()).then(|| signals(text, summary))
    }
}
