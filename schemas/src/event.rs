//! Events on core NATS subjects, which no stream stores. Readers must tolerate missing ones.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::result::ModelRef;
use crate::subject::{Lane, Token};

/// A message on `progress.v1.<job_id>`: a worker started the job or decoded more of its summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The job.
    pub id: JobId,
    /// Number of the delivery, starting at 1.
    pub attempt: u64,
    /// The worker.
    pub worker: Token,
    /// Time at which it started.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: Timestamp,
    /// The job's sequence in `JOBS`. The id of a cancelled job may be submitted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_sequence: Option<u64>,
    /// Number of the text in this attempt, starting at 1. Absent when the job has just started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u64>,
    /// The best text so far. Absent when the job has just started. With beam search, a later text may differ entirely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A message on `cancels.v1.<job_id>`: the client cancelled the job. The worker that runs it removes it from its
/// decoding batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancel {
    /// The job.
    pub id: JobId,
    /// Its sequence in `JOBS`. A later job with the same id is not cancelled.
    pub job_sequence: u64,
}

/// A request on `drains.v1.<worker_id>`: the worker takes no more jobs, finishes those it has, and exits. Until it has left, it
/// answers each request with the number of jobs that it still holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {}

/// A worker's answer to [`Drain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Draining {
    /// The worker.
    pub worker: Token,
    /// Number of jobs that it still holds.
    pub in_flight: u64,
}

/// A message on `workers.v1.<worker_id>`, every [`HEARTBEAT_SECONDS`]: a worker's model, lanes, load and pace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The worker.
    pub worker: Token,
    /// Its model.
    pub model: ModelRef,
    /// Lanes it pulls.
    pub lanes: Vec<Lane>,
    /// Its device: `cpu`, `cuda` or `metal`.
    pub device: String,
    /// Maximum number of jobs in its decoding batch.
    pub max_batch: u64,
    /// Maximum input of the model, in tokens.
    pub max_input_tokens: u64,
    /// Maximum number of tokens in a summary if a job sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_max_new_tokens: Option<u64>,
    /// Number of jobs it holds.
    pub in_flight: u64,
    /// Precision of the model: `f32`, `bf16`, `f16` or `int8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Duration of loading the model, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<f64>,
    /// Time from the start of loading to the first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// Resident memory of the process, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Its recent speed. Absent until its first job ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// `true` in the last heartbeat of a stopping worker.
    #[serde(default)]
    pub leaving: bool,
    /// Time of this heartbeat.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub sent_at: Timestamp,
}

/// A worker's speed while it was busy. Recent jobs count more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pace {
    /// Jobs per second while it had at least one.
    pub jobs_per_second: f64,
    /// Average time from handing a job to the engine to its result, in seconds.
    pub seconds_per_job: f64,
    /// Input tokens per second while it had at least one job. Workers of releases up to 0.2 don't report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Jobs per second while it has as many jobs as it takes, measured or extrapolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_per_second_at_capacity: Option<f64>,
    /// Time of a job that runs alone, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_alone: Option<f64>,
    /// Standard deviation of the time of jobs under equal load, relative to the average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
}

/// Interval of heartbeats, in seconds.
pub const HEARTBEAT_SECONDS: u64 = 2;
/// Seconds without a heartbeat after which a worker counts as gone.
pub const HEARTBEAT_TIMEOUT_SECONDS: u64 = 7;
