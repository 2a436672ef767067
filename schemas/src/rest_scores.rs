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
#[schemars(extend("not" = {"required": ["deadline", "ttl_seconds"]}))]
pub struct SubmitScores {
    /// The pairs to score.
    #[schemars(length(min = 1))]
    pub pairs: Vec<ScorePair>,
    /// Compare stems instead of words.
    #[serde(default)]
    pub stemmed: bool,
    /// Generation parameters for pairs without a summary.
    #[serde(default)]
    pub params: GenerationParams,
    /// Name of a served model; defaults to the deployment's default model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Priority; defaults to `normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Lane>,
    /// Pairs that have not ended by then expire. Excludes `ttl_seconds`.
    #[serde(
        default,
        deserialize_with = "crate::time::deserialize_deadline",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deadline: Option<Timestamp>,
    /// The deadline, in seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u64::MAX))]
    pub ttl_seconds: Option<u64>,
    /// Your notes, attached to every pair's job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A reference and the summary to score against it: `summary`, or the model's summary of `text`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["text"]}, {"required": ["summary"]}]))]
pub struct ScorePair {
    /// A text to summarize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub text: Option<String>,
    /// A summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub summary: Option<String>,
    /// A human summary.
    pub reference: String,
}

/// Answer of `/v1/scores`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreReport {
    /// Id of the batch, for `GET /v1/scores/{id}`.
    pub id: JobId,
    /// Whether all pairs have ended, successfully or not.
    pub done: bool,
    /// The pairs, in the order of the request.
    pub pairs: Vec<PairScores>,
    /// Statistics over the pairs with scores. Absent while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Related resources.
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
    /// Handle of the pair's job, for `GET /v1/jobs/{id}`.
    pub job_id: String,
    /// Its state.
    pub status: Status,
    /// The scores, if it succeeded.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// The summary that was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The error, if it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// Means over pairs with percentile bootstrap intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Aggregate {
    /// Number of pairs with scores.
    pub count: u64,
    /// Arithmetic means.
    pub mean: Figures,
    /// Lower ends of the intervals.
    pub low: Figures,
    /// Upper ends of the intervals.
    pub high: Figures,
    /// Confidence level of the intervals.
    pub confidence: f64,
    /// Number of bootstrap samples.
    pub resamples: u32,
}

/// One value per metric.
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
