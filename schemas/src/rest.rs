//! Bodies of the REST interface `/v1`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::BatchRef;
use crate::error_code::{ErrorCode, Refusal};
use crate::ids::JobId;
use crate::params::GenerationParams;
use crate::result::{ModelRef, Outcome, Sizes, Timings, WorkerRef};
use crate::scores::Scores;
use crate::subject::Lane;

pub use crate::rest_models::{ModelLimits, ModelList, ModelView};
pub use crate::rest_scores::{
    Aggregate, Figures, PairScores, ScoreLinks, ScorePair, ScoreReport, SubmitScores,
};

/// Body of `POST /v1/summaries`: one `text`, or several `texts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["text"]}, {"required": ["texts"]}],
    "not" = {"required": ["deadline", "ttl_seconds"]},
))]
pub struct SubmitSummary {
    /// The text to summarize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub text: Option<String>,
    /// Several texts. Each becomes its own job. Excludes `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub texts: Option<Vec<String>>,
    /// A human summary of `text`. The model's summary is scored against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Human summaries of `texts`: one for each text, or null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<Vec<Option<String>>>,
    /// Generation parameters.
    #[serde(default)]
    pub params: GenerationParams,
    /// Name of a served model; defaults to the deployment's default model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Priority; defaults to `normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Lane>,
    /// The job expires at this time. Excludes `ttl_seconds`.
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
    /// Your notes. The result repeats them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Always (`true`) or never (`false`) forward the result to Arize and Phoenix, if the deployment uses them. By
    /// default, the deployment's sampling rate decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_to_arize: Option<bool>,
    /// URL to post a signed webhook to when the job ends (Standard Webhooks). With several `texts`, each job sends one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uri"))]
    pub callback_url: Option<String>,
}

/// Body of `POST /v1/jobs/{id}/reference`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitReference {
    /// A human summary. The model's summary is scored against it.
    pub reference: String,
}

/// Response of `POST /v1/jobs/{id}/reference`: the summary will be scored against the reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceAccepted {
    /// The job's handle.
    pub job_id: String,
    /// Length of the reference, in characters.
    pub reference_chars: u64,
    /// Time at which it was accepted.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub received_at: Timestamp,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for a worker.
    Queued,
    /// A worker is processing it.
    Running,
    /// It has a summary.
    Succeeded,
    /// It has an error.
    Failed,
    /// The client cancelled it.
    Cancelled,
    /// Its deadline passed first.
    Expired,
}

impl Status {
    /// Reports whether the job has ended.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Expired => Self::Expired,
        }
    }
}

/// A job. Unknown fields are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    /// The job's handle, for `GET /v1/jobs/{id}`.
    pub id: String,
    /// Its state.
    pub status: Status,
    /// The summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Scores of the summary against the reference, for scoring jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// The batch of the job. Present once the job has ended, and in the response to its submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRef>,
    /// While queued: estimated number of the tenant's jobs ahead in the same lane (0: it is next). Other tenants and
    /// lanes are served in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// While queued: estimated seconds until it ends, from the measured pace of live workers. Absent if no worker is
    /// alive or none has finished a job yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
    /// While queued: seconds within which nine of ten such jobs end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds_p90: Option<f64>,
    /// Number of the delivery that is running or finished it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerRef>,
    /// Generation parameters in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<GenerationParams>,
    /// Sizes of input and output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Sizes>,
    /// Durations of the stages, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// Time at which the queue accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub submitted_at: Option<Timestamp>,
    /// Time at which a worker received it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time at which it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Your notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Related resources.
    pub links: Links,
}

/// Paths of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Links {
    /// The job itself.
    #[serde(rename = "self")]
    pub this: String,
    /// Its live events (Server-Sent Events).
    pub events: String,
}

impl Links {
    /// Returns the links of the job with this handle.
    pub fn of(handle: &str) -> Self {
        Self {
            this: format!("/v1/jobs/{handle}"),
            events: format!("/v1/jobs/{handle}/events"),
        }
    }
}

/// Response to a submission of several `texts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedBatch {
    /// Id of the batch, the same in all of its jobs.
    pub id: JobId,
    /// The jobs, in the order of the texts.
    pub jobs: Vec<JobView>,
}

/// Data of the event `text` on `/v1/jobs/{id}/events`: the summary so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextSoFar {
    /// Number of the delivery.
    pub attempt: u64,
    /// Number of the text in this attempt, starting at 1.
    pub part: u64,
    /// The whole text so far. With beam search, a later text may differ entirely.
    pub text: String,
}

/// Why a job did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobError {
    /// Stable error code.
    pub code: ErrorCode,
    /// Description of the error.
    pub message: String,
    /// Path of the page that explains the code and its remedy.
    pub remedy: String,
}

impl From<&Refusal> for JobError {
    fn from(refusal: &Refusal) -> Self {
        Self {
            code: refusal.code,
            message: refusal.message.clone(),
            remedy: refusal.code.doc_path(),
        }
    }
}

/// An error response: RFC 9457 problem details (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// URI reference of the page that explains the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short title, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Description of this occurrence.
    pub detail: String,
    /// Stable error code.
    pub code: ErrorCode,
    /// Id of the request, as in the header `x-request-id` and in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Handle of the job that still runs although this request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Handles of all accepted jobs of a request with several texts, in the order of the texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_ids: Vec<String>,
    /// State of that job, if it is the reason for the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<Status>,
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        Self {
            kind: refusal.code.doc_path(),
            title: refusal.code.title().to_owned(),
            status: refusal.code.http_status(),
            detail: refusal.message.clone(),
            code: refusal.code,
            request_id: None,
            job_id: None,
            job_ids: Vec::new(),
            job_status: None,
        }
    }
}
