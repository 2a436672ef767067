//! Batches as REST shows them: bodies of `/v1/batches`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rest::{JobError, Status};

/// State of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// The upload goes on.
    Receiving,
    /// Rows wait or run.
    Running,
    /// Every row has ended.
    Finished,
    /// The upload did not come to its end. The rows before that are jobs like any others.
    Broken,
}

/// Rows by their state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchCounts {
    /// Wait for a worker.
    pub queued: u64,
    /// A worker has them.
    pub running: u64,
    /// There is a summary.
    pub succeeded: u64,
    /// There is an error.
    pub failed: u64,
    /// Were cancelled.
    pub cancelled: u64,
    /// Their deadline passed first.
    pub expired: u64,
    /// Could not be jobs: empty, too long, not readable.
    pub refused: u64,
    /// Their results are no longer kept.
    pub gone: u64,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchView {
    /// The batch: give it to `GET /v1/batches/{id}`.
    pub id: String,
    /// Its state.
    pub status: BatchStatus,
    /// Rows so far; all of them unless it is being received.
    pub rows: u64,
    /// Rows by their state.
    pub counts: BatchCounts,
    /// Share of the rows that have ended, 0 to 1.
    pub progress: f64,
    /// Seconds until all have ended, at the pace so far; absent before the first has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Why the upload is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// When its first row was read.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// When its last row ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// When rows that still wait expire.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub deadline: Timestamp,
    /// Where to go on.
    pub links: BatchLinks,
}

/// Paths of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchLinks {
    /// The batch itself.
    #[serde(rename = "self")]
    pub this: String,
    /// Its results.
    pub results: String,
}

impl BatchLinks {
    /// Links of the batch with this id.
    pub fn of(id: &str) -> Self {
        Self {
            this: format!("/v1/batches/{id}"),
            results: format!("/v1/batches/{id}/results"),
        }
    }
}

/// A line of `GET /v1/batches/{id}/results`: a row, or, without `index`, why the upload is broken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchLine {
    /// Place of the row, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Line of the upload on which it began, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Handle of its job; absent when it could not be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// State of the row.
    pub status: Status,
    /// The summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// The client's own notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}
