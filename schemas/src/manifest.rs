//! What is kept of a batch besides its jobs and their results: which rows there were, and where their jobs stood
//! in the queue. No states: those are read off `JOBS` and `RESULTS`.
//!
//! In the stream `BATCHES`, with the tenant in the subject, so that nobody finds another's: the head on
//! `batches.v1.<tenant>.<batch_id>.head`, the rows in chunks on `batches.v1.<tenant>.<batch_id>.<number>`,
//! counted from 0. The job of row `n`, counted from 0, has the id `<batch_id>-<n>`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::BatchRef;
use crate::error_code::Refusal;
use crate::ids::JobId;
use crate::subject::Token;

/// Rows in a chunk; the last one of a batch may have fewer.
pub const CHUNK_ROWS: usize = 500;

/// How far a batch has come in being taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntakeState {
    /// Rows are still being read.
    Receiving,
    /// All rows have been read.
    Complete,
    /// The upload ended before its end. The rows before that are jobs like any others.
    Broken,
}

/// The head of a batch; written anew as it grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHead {
    /// The batch.
    pub id: JobId,
    /// Where its jobs go: all have the same subject.
    pub subject: String,
    /// How far it has come.
    pub intake: IntakeState,
    /// Why the upload is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// Rows in the chunks so far.
    pub rows: u64,
    /// Chunks so far.
    pub chunks: u64,
    /// When its jobs expire.
    pub deadline: Timestamp,
    /// When its first row was read.
    pub created_at: Timestamp,
    /// When this was written.
    pub updated_at: Timestamp,
    /// SHA-256 of what was uploaded, where the upload came with an idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A chunk of rows, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchChunk {
    /// The rows.
    pub rows: Vec<BatchRow>,
}

/// A row: its job's place in the queue, or why it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// Line of the upload on which it began, counted from 1.
    pub line: u64,
    /// Sequence of its job in `JOBS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Why there is no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// The place of row `row`, counted from 0, in its batch. How many there will be is not known while they come.
pub fn place_of(batch: &JobId, row: u64) -> BatchRef {
    BatchRef {
        id: batch.clone(),
        index: row,
        size: None,
    }
}

/// The id of the job of row `row`; none when the batch's id is too long for that, as only one can be that was not made
/// here.
pub fn job_of(batch: &JobId, row: u64) -> Option<JobId> {
    place_of(batch, row).job_id()
}

/// Subject of the head of a batch.
pub fn head_of(tenant: &Token, batch: &JobId) -> String {
    format!("batches.v1.{tenant}.{batch}.head")
}

/// Subject of a chunk of a batch.
pub fn chunk_of(tenant: &Token, batch: &JobId, number: u64) -> String {
    format!("batches.v1.{tenant}.{batch}.{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_of_a_row_has_a_good_id_up_to_the_largest_batch() {
        let batch = JobId::generate();
        let id = job_of(&batch, u64::MAX).unwrap();
        assert_eq!(id.to_string(), format!("{batch}-{}", u64::MAX));
        assert_eq!(job_of(&"x".repeat(64).parse().unwrap(), 1), None);
    }
}
