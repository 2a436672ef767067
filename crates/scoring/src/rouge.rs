//! ROUGE: the overlap of a summary with a reference.
//!
//! Scores equal Google's `rouge-score` 0.1.2 to the last bit (Lin 2004, *ROUGE: A Package for Automatic Evaluation of
//! Summaries*). Text is lower-cased, and every run of characters outside `a-z0-9` separates tokens. With stemming,
//! tokens of more than three characters go through the Porter stemmer with NLTK's extensions. A text without n-grams
//! scores 0, even against another empty text.

use rougers::{RougeScorer, RougeType, Score, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::lcs::{Hits, union_hits};

/// Precision, recall and their harmonic mean, each a share from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prf {
    /// Share of the prediction's units that occur in the reference, 0 to 1.
    pub precision: f64,
    /// Share of the reference's units that occur in the prediction, 0 to 1.
    pub recall: f64,
    /// `2 * precision * recall / (precision + recall)`, and 0 when both are 0.
    pub fmeasure: f64,
}

/// The four ROUGE variants of one pair, serialized as `rouge1`, `rouge2`, `rougeL` and `rougeLsum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RougeScores {
    /// Overlap of single tokens, each counted at most as often as it occurs in the other text.
    pub rouge1: Prf,
    /// Overlap of pairs of adjacent tokens, counted likewise.
    pub rouge2: Prf,
    /// Longest common subsequence of the two whole texts.
    #[serde(rename = "rougeL")]
    pub rouge_l: Prf,
    /// Union of the longest common subsequences of each reference line with every prediction line.
    ///
    /// Lines end at `\n` only. For text without a newline the score equals `rougeL`.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: Prf,
}

/// The F-measures alone, each 0 to 1, under the names that `evaluate`'s ROUGE uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RougeFmeasures {
    /// F-measure of ROUGE-1.
    pub rouge1: f64,
    /// F-measure of ROUGE-2.
    pub rouge2: f64,
    /// F-measure of ROUGE-L.
    #[serde(rename = "rougeL")]
    pub rouge_l: f64,
    /// F-measure of ROUGE-Lsum.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: f64,
}

impl RougeScores {
    /// Returns the F-measures alone.
    pub fn fmeasures(&self) -> RougeFmeasures {
        RougeFmeasures {
            rouge1: self.rouge1.fmeasure,
            rouge2: self.rouge2.fmeasure,
            rouge_l: self.rouge_l.fmeasure,
            rouge_lsum: self.rouge_lsum.fmeasure,
        }
    }
}

/// Two texts are too long to compare; see [`Rouge::try_score`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("texts are too long to compare: {cells} pairs of tokens, at most {limit} are allowed")]
pub struct TooLong {
    /// Tokens of the reference times tokens of the prediction.
    pub cells: u64,
    /// The limit of the call.
    pub limit: u64,
}

/// Scores predictions against references, with or without stemming.
///
/// The default does not stem, like `rouge-score` and `evaluate`.
#[derive(Clone, Debug)]
pub struct Rouge {
    scorer: RougeScorer,
}

impl Default for Rouge {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Rouge {
    /// A limit for [`try_score`](Self::try_score) that suits untrusted texts: 2^25 pairs of tokens, about two
    /// texts of 5,800 tokens each, for which `rougeLsum` needs 8 MiB.
    pub const DEFAULT_LIMIT: u64 = 1 << 25;

    /// Creates a scorer, which stems tokens if `stem` is set.
    pub fn new(stem: bool) -> Self {
        let types = vec![RougeType::N(1), RougeType::N(2), RougeType::L];
        let scorer = RougeScorer::with_tokenizer(types, Tokenizer::new(stem))
            .expect("1 and 2 are within the n-gram sizes that the scorer accepts");
        Self { scorer }
    }

    /// Scores `prediction` against `reference`.
    ///
    /// Time and memory grow with the product of the two lengths, divided by 64. For untrusted texts use
    /// [`try_score`](Self::try_score).
    pub fn score(&self, reference: &str, prediction: &str) -> RougeScores {
        let scores = self.scorer.score(reference, prediction);
        let tokenizer = self.scorer.tokenizer();
        let of = |kind| scores.get(kind).map(Prf::from).unwrap_or_default();
        RougeScores {
            rouge1: of(RougeType::N(1)),
            rouge2: of(RougeType::N(2)),
            rouge_l: of(RougeType::L),
            rouge_lsum: union_hits(reference, prediction, |line| tokenizer.tokenize(line)).into(),
        }
    }

    /// Scores `prediction` against `reference` unless the work would exceed `limit` pairs of tokens.
    ///
    /// # Errors
    /// [`TooLong`] if the product of the two token counts exceeds `limit`. Nothing is computed then.
    pub fn try_score(&self, reference: &str, prediction: &str, limit: u64) -> Result<RougeScores, TooLong> {
        // A token has at least one byte, so short texts need no counting.
        let most = (reference.len() as u64).saturating_mul(prediction.len() as u64);
        if most > limit {
            let cells = count_tokens(reference).saturating_mul(count_tokens(prediction));
            if cells > limit {
                return Err(TooLong { cells, limit });
            }
        }
        Ok(self.score(reference, prediction))
    }
}

/// Counts the ROUGE tokens of a text without allocating them.
fn count_tokens(text: &str) -> u64 {
    let mut count = 0;
    let mut inside = false;
    for c in text.chars().flat_map(char::to_lowercase) {
        let word = c.is_ascii_lowercase() || c.is_ascii_digit();
        count += u64::from(word && !inside);
        inside = word;
    }
    count
}

impl From<Score> for Prf {
    fn from(score: Score) -> Self {
        Self {
            precision: score.precision,
            recall: score.recall,
            fmeasure: score.fmeasure,
        }
    }
}

impl From<Hits> for Prf {
    fn from(hits: Hits) -> Self {
        if hits.hits == 0 {
            return Self::default();
        }
        let precision = hits.hits as f64 / hits.prediction_tokens as f64;
        let recall = hits.hits as f64 / hits.reference_tokens as f64;
        Self {
            precision,
            recall,
            // In this order, it is equal to `rouge-score`'s to the last bit.
            fmeasure: 2.0 * precision * recall / (precision + recall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_above_the_limit_are_refused_early() {
        let text = "word ".repeat(1_000);
        assert_eq!(
            Rouge::default().try_score(&text, &text, 999_999),
            Err(TooLong {
                cells: 1_000_000,
                limit: 999_999
            })
        );
        assert_eq!(
            Rouge::default()
                .try_score(&text, &text, 1_000_000)
                .unwrap()
                .rouge1
                .fmeasure,
            1.0
        );
    }

    #[test]
    fn token_counts_equal_the_scorers() {
        for text in [
            "",
            "a-b c",
            "caf\u{e9} ol\u{e9}",
            "\u{212a}elvin \u{130}x",
            "3.5\nx",
        ] {
            assert_eq!(
                count_tokens(text),
                Tokenizer::new(false).tokenize(text).len() as u64,
                "{text:?}"
            );
        }
    }

    #[test]
    fn stemming_merges_inflected_forms() {
        assert_eq!(Rouge::new(false).score("running", "runs").rouge1.fmeasure, 0.0);
        assert_eq!(Rouge::new(true).score("running", "runs").rouge1.fmeasure, 1.0);
    }
}
