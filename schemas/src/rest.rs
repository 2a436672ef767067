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
#[schemars(extend("oneOf" = [{"required": ["text"]}, {"required": ["texts"]}]))]
pub struct SubmitSummary {
    /// The text to summarize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Several texts, each of which becomes a job of its own. Not together with `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub texts: Option<Vec<String>>,
    /// A summary of `text` by a human; the model's is then scored against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Summaries of `texts` by a human: one for each text, or null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<Vec<Option<String>>>,
    /// How to generate.
    #[serde(default)]
    pub params: GenerationParams,
    /// Name of a served model; the deployment's default without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Priority; `normal` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Lane>,
    /// Answer `expired` after this time. Not together with `ttl_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deadline: Option<Timestamp>,
    /// The deadline, in seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub ttl_seconds: Option<u64>,
    /// Your own notes; they come back with the result.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Whether the result is forwarded to Arize and Phoenix, where the deployment has them: always, or never. Left
    /// open, the deployment's sampling rate decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_to_arize: Option<bool>,
    /// Post the job's end to this address, signed (Standard Webhooks); with several `texts`, the end of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uri"))]
    pub callback_url: Option<String>,
}

/// Body of `POST /v1/jobs/{id}/reference`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitReference {
    /// A summary by a human; the model's is scored against it.
    pub reference: String,
}

/// Answer of `POST /v1/jobs/{id}/reference`: it will be compared with the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceAccepted {
    /// The job's handle.
    pub job_id: String,
    /// Characters of the reference.
    pub reference_chars: u64,
    /// When it was taken.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub received_at: Timestamp,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// There is a summary.
    Succeeded,
    /// There is an error.
    Failed,
    /// The client cancelled it.
    Cancelled,
    /// Its deadline passed first.
    Expired,
}

impl Status {
    /// True when nothing will change any more.
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

/// A job as REST shows it. What is not known yet is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    /// The job's handle: give it to `GET /v1/jobs/{id}`.
    pub id: String,
    /// Its state.
    pub status: Status,
    /// The summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Scores of the summary against the reference, of a job that was submitted to be scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// The batch that the job is part of; shown when it has ended, and in the answer to its submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRef>,
    /// While queued: at most this many jobs are before it (0: it is next).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// While queued: when it will have ended, in seconds from now, by the measured pace of the workers that are alive.
    /// Absent when none is, or none has done a job yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
    /// Which delivery is running, or finished it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerRef>,
    /// Parameters as they were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<GenerationParams>,
    /// Sizes of what went in and came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Sizes>,
    /// Where the time went, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// When the queue took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub submitted_at: Option<Timestamp>,
    /// When a worker began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Your own notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Where to go on.
    pub links: Links,
}

/// Paths of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Links {
    /// The job itself.
    #[serde(rename = "self")]
    pub this: String,
    /// Its events as they happen (Server-Sent Events).
    pub events: String,
}

impl Links {
    /// Links of the job with this handle.
    pub fn of(handle: &str) -> Self {
        Self {
            this: format!("/v1/jobs/{handle}"),
            events: format!("/v1/jobs/{handle}/events"),
        }
    }
}

/// Answer to a submission of several `texts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedBatch {
    /// Id of the batch, the same in all of its jobs.
    pub id: JobId,
    /// The jobs, in the order of the texts.
    pub jobs: Vec<JobView>,
}

/// Data of the event `text` on `/v1/jobs/{id}/events`: the summary as far as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextSoFar {
    /// Which delivery of the job writes it.
    pub attempt: u64,
    /// Which text of the attempt this is, counted from 1.
    pub part: u64,
    /// The whole text so far. With beams a later one may be another altogether.
    pub text: String,
}

/// Why a job did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobError {
    /// Stable code.
    pub code: ErrorCode,
    /// What exactly was wrong.
    pub message: String,
    /// Page with the remedy.
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

/// A refusal over HTTP: RFC 9457 problem details, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Page that explains the code (a URI reference).
    #[serde(rename = "type")]
    pub kind: String,
    /// Short and the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What exactly was wrong this time.
    pub detail: String,
    /// Stable code.
    pub code: ErrorCode,
    /// Id of the request, as in the header `x-request-id` and in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The job that goes on although this request was not answered with its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// All jobs of a request with several texts, in the order of the texts: those that the queue has taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_ids: Vec<String>,
    /// State of that job, when it is why the request is refused.
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
