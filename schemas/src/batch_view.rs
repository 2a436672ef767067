//! Bodies of `/v1/batches`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rest::{JobError, Status};

/// State of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// The upload is running.
    Receiving,
    /// Rows are queued or running.
    Running,
    /// Every row has ended.
    Finished,
    /// The upload was cut off. The rows before the cut still run.
    Broken,
}

/// Number of rows by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchCounts {
    /// Rows that wait for a worker.
    pub queued: u64,
    /// Rows that a worker is processing.
    pub running: u64,
    /// Rows with a summary.
    pub succeeded: u64,
    /// Rows with an error.
    pub failed: u64,
    /// Cancelled rows.
    pub cancelled: u64,
    /// Rows whose deadline passed.
    pub expired: u64,
    /// Rows that were refused: empty, too long or malformed.
    pub refused: u64,
    /// Rows whose results have expired.
    pub gone: u64,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchView {
    /// Id of the batch, for `GET /v1/batches/{id}`.
    pub id: String,
    /// Its state.
    pub status: BatchStatus,
    /// Number of rows received so far.
    pub rows: u64,
    /// Number of rows by state.
    pub counts: BatchCounts,
    /// Fraction of rows that have ended, 0 to 1.
    pub progress: f64,
    /// While running: estimated seconds until all rows end, from the measured pace of live workers. Absent if no worker
    /// is alive or none has finished a job yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// While running: seconds within which nine of ten such batches end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds_p90: Option<u64>,
    /// Why the upload is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Time at which the first row was read.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// Time at which the last row ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Deadline of its rows.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub deadline: Timestamp,
    /// Related resources.
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
    /// Returns the links of the batch with this id.
    pub fn of(id: &str) -> Self {
        Self {
            this: format!("/v1/batches/{id}"),
            results: format!("/v1/batches/{id}/results"),
        }
    }
}

/// A line of `GET /v1/batches/{id}/results`: a row or, without `index`, the reason why the upload is broken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchLine {
    /// Index of the row, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Line of the upload on which the row starts, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The row's value in the column that `id_column` named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_id: Option<String>,
    /// Handle of its job; absent if the row was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// State of the row.
    pub status: Status,
    /// The summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// The row's metadata: the client's notes, or the other columns of a CSV file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}
