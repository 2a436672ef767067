//! Bodies of the routes that work on all jobs or predictions that match a filter.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error_code::Refusal;
use crate::rest::Status;
use crate::subject::{Lane, Task, Token};

/// Response of `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueuedJobList {
    /// Jobs that wait or run, the oldest first.
    pub jobs: Vec<QueuedJobView>,
    /// Pass it as `after` for the next page. Absent at the end. A page may be short although there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A job that waits or runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueuedJobView {
    /// The job's handle, for `GET /v1/jobs/{id}`.
    pub id: String,
    /// `queued` or `running`.
    pub status: Status,
    /// The served model.
    pub model: Token,
    /// Its priority.
    pub lane: Lane,
    /// Its task.
    pub task: Task,
    /// Its tenant.
    pub tenant: Token,
    /// Time at which the queue accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub submitted_at: Option<Timestamp>,
    /// Time at which it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deadline: Option<Timestamp>,
    /// The first 300 characters of its text.
    pub text: String,
    /// The publisher's notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Response of `POST /v1/jobs/cancel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancelledJobs {
    /// Handles of the jobs that this request cancelled.
    pub cancelled: Vec<String>,
    /// Jobs that matched and ended by themselves first.
    pub ended: u64,
    /// Pass it as `after` to go on. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Why the request stopped early. Going on from `next` tries the job again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Refusal>,
}

/// Response of `GET /v1/predictions/count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PredictionCount {
    /// Predictions that match.
    pub count: u64,
}

/// Response of `POST /v1/predictions/resubmit`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResubmittedJobs {
    /// Name of the run. Requests with the same `run` submit no prediction twice.
    pub run: String,
    /// The new jobs.
    pub submitted: Vec<ResubmittedJob>,
    /// Predictions that can't be run again.
    pub skipped: Vec<SkippedPrediction>,
    /// Pass it as `after` to go on. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Why the request stopped early. Going on from `after` tries the prediction again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Refusal>,
}

/// A prediction that runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResubmittedJob {
    /// Id of the prediction's job.
    pub job_id: String,
    /// Handle of the new job.
    pub id: String,
}

/// A prediction that can't be run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedPrediction {
    /// Id of the prediction's job.
    pub job_id: String,
    /// Why.
    pub reason: Refusal,
}
