//! Scores against a reference, and signals that need none.

use precis_scoring::signals::{self, try_signals};
use precis_scoring::{Rouge, RougeScores, Signals, bleu};

/// Most characters of a text whose signals are computed.
const MAX_SIGNAL_CHARS: usize = 200_000;

/// Computes scores and signals.
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

/// Scores of a summary against its reference.
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
    /// Scores `summary` against `reference`. Returns `None` if the reference is blank, or the two are too long to
    /// compare in bounded time.
    pub fn scores(&self, reference: &str, summary: &str) -> Option<Scores> {
        if reference.trim().is_empty() {
            return None;
        }
        let rouge = match self.plain.try_score(reference, summary, Rouge::DEFAULT_LIMIT) {
            Ok(rouge) => rouge,
            Err(error) => {
                tracing::debug!(%error, "summary not scored");
                return None;
            }
        };
        Some(Scores {
            rouge,
            // Stemming keeps the number of tokens, so the limit holds here, too.
            stemmed: self.stemmed.score(reference, summary),
            bleu: bleu(reference, summary).score,
        })
    }

    /// Computes the signals of `summary`. Returns `None` without its text, if either is too long, or if both repeat
    /// themselves so much that finding their common passages takes too long.
    pub fn signals(&self, text: &str, summary: &str) -> Option<Signals> {
        let short = text.len() <= 4 * MAX_SIGNAL_CHARS && summary.len() <= MAX_SIGNAL_CHARS;
        if !short || text.is_empty() {
            return None;
        }
        try_signals(text, summary, signals::DEFAULT_LIMIT)
    }
}
