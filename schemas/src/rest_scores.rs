//! Bodies of `/v1/scores`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::params::GenerationParams;
use crate::rest::{JobError, Status};
use crate::scores::{RougeScore, Scores};
use crate::subject::Lane;

/// Body of `POST /v1/scores`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitScores {
    /// What to score.
    #[schemars(length(min = 1))]
    pub pairs: Vec<ScorePair>,
    /// Compare the stems of words, and not the words.
    #[serde(default)]
    pub stemmed: bool,
    /// How to generate summaries where only a text is given.
    #[serde(default)]
    pub params: GenerationParams,
    /// Name of a served model; the deployment's default without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Priority; `normal` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Lane>,
    /// Give up what is not done at this time. Not together with `ttl_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deadline: Option<Timestamp>,
    /// The deadline, in seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub ttl_seconds: Option<u64>,
    /// Your own notes; they stand with every pair's job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A reference, and what is scored against it: a given `summary`, or the one that the model writes of `text`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["text"]}, {"required": ["summary"]}]))]
pub struct ScorePair {
    /// A text to summarize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// A summary by a human.
    pub reference: String,
}

/// Answer of `/v1/scores`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreReport {
    /// Id of the batch: give it to `GET /v1/scores/{id}`.
    pub id: JobId,
    /// Whether all pairs have ended, however they did.
    pub done: bool,
    /// In the order of the request.
    pub pairs: Vec<PairScores>,
    /// Over the pairs that have scores; absent while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Where to go on.
    pub links: ScoreLinks,
}

/// Paths of a score report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreLinks {
    /// The report itself.
    #[serde(rename = "self")]
    pub this: String,
}

/// One pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairScores {
    /// Handle of the pair's job: give it to `GET /v1/jobs/{id}`.
    pub job_id: String,
    /// Its state.
    pub status: Status,
    /// The scores, when it succeeded.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// The summary that was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What was wrong, when it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// Means over pairs, and how far they may be off: the ends of a percentile bootstrap interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Aggregate {
    /// Pairs with scores.
    pub count: u64,
    /// Plain means.
    pub mean: Figures,
    /// Lower ends of the intervals.
    pub low: Figures,
    /// Upper ends of the intervals.
    pub high: Figures,
    /// Share of resampled means inside of an interval.
    pub confidence: f64,
    /// Samples that were drawn.
    pub resamples: u32,
}

/// One figure of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// ROUGE-1.
    pub rouge1: RougeScore,
    /// ROUGE-2.
    pub rouge2: RougeScore,
    /// ROUGE-L.
    #[serde(rename = "rougeL")]
    pub rouge_l: RougeScore,
    /// ROUGE-Lsum.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: RougeScore,
    /// BLEU, 0 to 100.
    pub bleu: f64,
}
