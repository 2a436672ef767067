//! Scores of a summary against a reference. `precis_scoring` computes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Prf")]
pub struct RougeScore {
    /// Fraction of the summary's units that also occur in the reference, 0 to 1.
    pub precision: f64,
    /// Fraction of the reference's units that also occur in the summary, 0 to 1.
    pub recall: f64,
    /// `2 * precision * recall / (precision + recall)`, and 0 when both are 0.
    pub fmeasure: f64,
}

/// ROUGE as in `rouge-score` 0.1.2, and BLEU as in sacreBLEU 2.6.0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scores {
    /// Overlap of single words.
    pub rouge1: RougeScore,
    /// Overlap of word pairs.
    pub rouge2: RougeScore,
    /// Longest common subsequence of the whole texts.
    #[serde(rename = "rougeL")]
    pub rouge_l: RougeScore,
    /// Longest common subsequences, line by line.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: RougeScore,
    /// BLEU, 0 to 100. Never stemmed.
    pub bleu: f64,
    /// Whether ROUGE compared stems instead of words.
    pub stemmed: bool,
}
