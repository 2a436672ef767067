//! Events on core subjects, without a stream: they may be missed, and nothing is lost when they are.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::result::ModelRef;
use crate::subject::{Lane, Token};

/// On `progress.v1.<job_id>`: a worker has begun with the job, or has written more of its summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The job.
    pub id: JobId,
    /// How often the job had been delivered, this time included.
    pub attempt: u64,
    /// The worker.
    pub worker: Token,
    /// When it began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: Timestamp,
    /// The job's sequence in `JOBS`: the same id may have been submitted again after it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_sequence: Option<u64>,
    /// Which text of this attempt it is, counted from 1; nothing when the job has just begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u64>,
    /// The best text so far, as the model writes it; nothing when the job has just begun. With beams a later one may be
    /// another altogether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// On `cancels.v1.<job_id>`: the client doesn't want the job any more. The worker that has it takes it out of its batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancel {
    /// The job.
    pub id: JobId,
    /// Its sequence in `JOBS`: a later job of the same id is not meant.
    pub job_sequence: u64,
}

/// On `workers.v1.<worker_id>`, every [`HEARTBEAT_SECONDS`]: what a worker serves, and how busy it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The worker.
    pub worker: Token,
    /// The model that it serves.
    pub model: ModelRef,
    /// Lanes that it pulls.
    pub lanes: Vec<Lane>,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
    /// Most jobs in a batch.
    pub max_batch: u64,
    /// Longest input that the model reads, in tokens.
    pub max_input_tokens: u64,
    /// Jobs that it holds at the moment.
    pub in_flight: u64,
    /// What the model computes in: `f32`, `bf16`, `f16` or `int8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// How long the model took to load, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<f64>,
    /// From the beginning of the load to the model's first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// Bytes of the process in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// How fast it has worked lately; nothing before its first job is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// `true` in the last heartbeat of a worker that is going away.
    #[serde(default)]
    pub leaving: bool,
    /// When it was sent.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub sent_at: Timestamp,
}

/// How fast a worker has worked while it had something to do: newer jobs count more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pace {
    /// Jobs done in a second, over the time in which it had at least one.
    pub jobs_per_second: f64,
    /// From the engine getting a job to its result, in seconds, on average.
    pub seconds_per_job: f64,
}

/// Seconds between two heartbeats.
pub const HEARTBEAT_SECONDS: u64 = 2;
/// Seconds without a heartbeat after which a worker counts as gone.
pub const HEARTBEAT_TIMEOUT_SECONDS: u64 = 7;
