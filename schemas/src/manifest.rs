//! The manifest of a batch: its rows and the sequences of their jobs. It holds no states: those come from `JOBS` and
//! `RESULTS`.
//!
//! The stream `BATCHES` stores the head on `batches.v1.<tenant>.<batch_id>.head` and the rows in chunks on
//! `batches.v1.<tenant>.<batch_id>.<number>`. The tenant in the subject hides batches from other tenants. Chunks and
//! rows count from 0. The job of row `n` has the id `<batch_id>-<n>`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::BatchRef;
use crate::error_code::Refusal;
use crate::ids::JobId;
use crate::subject::Token;

/// Most rows in a chunk. A chunk with large rows has fewer.
pub const CHUNK_ROWS: usize = 500;

/// Most metadata keys that [`BatchHead::columns`] lists.
pub const MAX_COLUMNS: usize = 64;

/// State of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntakeState {
    /// Rows are still being read.
    Receiving,
    /// All rows have been read.
    Complete,
    /// The upload was cut off. The rows before the cut still run.
    Broken,
}

/// The head of a batch, rewritten as the batch grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHead {
    /// The batch.
    pub id: JobId,
    /// Subject of all its jobs.
    pub subject: String,
    /// State of the upload.
    pub intake: IntakeState,
    /// Why the upload is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// Number of rows in the chunks so far.
    pub rows: u64,
    /// Number of chunks so far.
    pub chunks: u64,
    /// Deadline of its jobs.
    pub deadline: Timestamp,
    /// Time at which the first row was read.
    pub created_at: Timestamp,
    /// Time of this version.
    pub updated_at: Timestamp,
    /// SHA-256 of the upload, if it had an idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Key of the metadata that identifies a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// Keys of the rows' metadata, at most [`MAX_COLUMNS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// Consecutive rows of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchChunk {
    /// The rows.
    pub rows: Vec<BatchRow>,
}

/// A row: its job's sequence, or the reason why it has no job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// Line of the upload on which it starts, counted from 1.
    pub line: u64,
    /// Sequence of its job in `JOBS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Why the row has no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Metadata of a row without a job. Of a row with a job, the entry that identifies it, if the batch has one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Returns the position of row `row` (from 0) in its batch, without the size, which is unknown during an upload.
pub fn place_of(batch: &JobId, row: u64) -> BatchRef {
    BatchRef {
        id: batch.clone(),
        index: row,
        size: None,
    }
}

/// Returns the id of the job of row `row`; `None` if the batch's id is too long, which a generated id never is.
pub fn job_of(batch: &JobId, row: u64) -> Option<JobId> {
    place_of(batch, row).job_id()
}

/// Returns the subject of a batch's head.
pub fn head_of(tenant: &Token, batch: &JobId) -> String {
    format!("batches.v1.{tenant}.{batch}.head")
}

/// Returns the subject of a batch's chunk.
pub fn chunk_of(tenant: &Token, batch: &JobId, number: u64) -> String {
    format!("batches.v1.{tenant}.{batch}.{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_of_rows_are_valid_up_to_the_largest_row() {
        let batch = JobId::generate();
        let id = job_of(&batch, u64::MAX).unwrap();
        assert_eq!(id.to_string(), format!("{batch}-{}", u64::MAX));
        assert_eq!(job_of(&"x".repeat(64).parse().unwrap(), 1), None);
    }
}
