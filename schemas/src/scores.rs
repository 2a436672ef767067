//! Scores of a summary against a reference, as results and REST carry them. `precis_scoring` computes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Prf")]
pub struct RougeScore {
    /// Share of the summary's units that the reference has too, 0 to 1.
    pub precision: f64,
    /// Share of the reference's units that the summary has too, 0 to 1.
    pub recall: f64,
    /// `2 * precision * recall / (precision + recall)`, and 0 when both are 0.
    pub fmeasure: f64,
}

/// ROUGE (as `rouge-score` 0.1.2 computes it) and BLEU (as sacreBLEU 2.6.0 does).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scores {
    /// Overlap of single words.
    pub rouge1: RougeScore,
    /// Overlap of pairs of neighbouring words.
    pub rouge2: RougeScore,
    /// Longest common subsequence of the two whole texts.
    #[serde(rename = "rougeL")]
    pub rouge_l: RougeScore,
    /// Longest common subsequences line by line.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: RougeScore,
    /// BLEU, 0 to 100; never stemmed.
    pub bleu: f64,
    /// Whether ROUGE compared the stems of words.
    pub stemmed: bool,
}
