//! Publishing rows as jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::job::JobLimits;
use precis_schemas::{Channel, GenerationParams, Job, JobHandle, JobId, JobSubject, Task, manifest};
use tokio::time::Instant;

use super::rows::{InputRow, RowContent};
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::submit;

/// Delay before a row that the queue refused is published again.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// How long a row waits for the queue to be reachable again, so that an upload survives a restart of a NATS server.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the metadata of a refused row as far as it is within the limits.
fn within(metadata: BTreeMap<String, String>, limits: &JobLimits) -> BTreeMap<String, String> {
    let bytes = limits.max_metadata_bytes;
    let fitting = metadata
        .into_iter()
        .filter(|(key, value)| key.len() <= bytes && value.len() <= bytes);
    fitting.take(limits.max_metadata_entries).collect()
}

/// Publishes the rows of one batch. Cheap to clone.
#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) state: AppState,
    pub(super) caller: Caller,
    pub(super) trace: TraceContext,
    /// Generation parameters of all rows.
    pub(super) params: GenerationParams,
    /// The subject of all rows.
    pub(super) subject: JobSubject,
    /// The batch.
    pub(super) batch: JobId,
    /// Key of the metadata that identifies a row.
    pub(super) id_column: Option<String>,
    /// The deadline of all rows.
    pub(super) deadline: Timestamp,
    /// Whether to publish no further rows.
    pub(super) closed: Arc<AtomicBool>,
}

impl Publisher {
    /// Publishes the job of a row and returns the row's record: a sequence, or why there is no job.
    ///
    /// # Errors
    /// A failure of the batch as a whole, in which case no further rows are published. It is returned next to the
    /// record if it concerns a particular row.
    pub(super) async fn publish_row(
        self,
        index: u64,
        row: Result<InputRow, ApiError>,
    ) -> Result<(manifest::BatchRow, Option<Refusal>), ApiError> {
        let row = self.within_limit(index, row).inspect_err(|_| self.close())?;
        let InputRow {
            line,
            metadata,
            content,
        } = row;
        let limits = self.state.limits().job();
        let refused = |refusal, metadata: BTreeMap<String, String>| manifest::BatchRow {
            line,
            sequence: None,
            refusal: Some(refusal),
            metadata: within(metadata, &limits),
        };
        let content = match self.identified(content, &metadata) {
            Ok(content) => content,
            Err(refusal) => return Ok((refused(refusal, metadata), None)),
        };
        let batch = manifest::place_of(&self.batch, index);
        let id = batch
            .job_id()
            .ok_or_else(|| ApiError::internal("the batch id is too long"))?;
        let job = Job {
            id,
            text: content.article,
            reference: content.summ,
            summary: None,
            stemmed: false,
            batch: Some(batch),
            params: self.params.clone(),
            deadline: Some(self.deadline),
            channel: Channel::Batch,
            metadata,
            send_to_arize: None,
            callback: None,
        };
        if let Err(refusal) = job.validate(Task::Summarize, &limits) {
            return Ok((refused(refusal, job.metadata), None));
        }
        let submission = Submission {
            subject: self.subject.clone(),
            job,
            trace: self.trace.clone(),
        };
        let published = self.publish(&submission).await;
        let metadata = submission.job.metadata;
        match published {
            Ok(handle) => {
                let row = manifest::BatchRow {
                    line,
                    sequence: handle.sequence,
                    refusal: None,
                    // The result has all of it, but is not kept as long.
                    metadata: self.id_of(metadata),
                };
                Ok((row, None))
            }
            // The row is too large for a message. The others may fit.
            Err(refusal) if refusal.code == ErrorCode::BodyTooLarge => Ok((refused(refusal, metadata), None)),
            Err(refusal) => {
                self.close();
                Ok((refused(refusal.clone(), metadata), Some(refusal)))
            }
        }
    }

    /// Refuses a row without the value that identifies it, if the batch asks for one.
    fn identified(
        &self,
        content: Result<RowContent, Refusal>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<RowContent, Refusal> {
        let content = content?;
        match &self.id_column {
            Some(name) if metadata.get(name).is_none_or(|id| id.trim().is_empty()) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("the row has no value in `{name}`, the column that identifies it"),
            )),
            _ => Ok(content),
        }
    }

    /// Returns the metadata entry that identifies a row.
    fn id_of(&self, mut metadata: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let entry = self
            .id_column
            .as_ref()
            .and_then(|name| metadata.remove_entry(name));
        entry.into_iter().collect()
    }

    /// Stops the publishing of further rows.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn within_limit(&self, index: u64, row: Result<InputRow, ApiError>) -> Result<InputRow, ApiError> {
        let max = self.state.batches().max_rows;
        if row.is_ok() && index >= max {
            return Err(ApiError::new(
                ErrorCode::BodyTooLarge,
                format!("the upload has more than {max} rows"),
            ));
        }
        row
    }

    /// Reserves room for a row in the queue and in the caller's quota.
    async fn reserve(&self) -> Result<(), Refusal> {
        let queue = self.state.queue();
        self.state
            .lane_shares()
            .admit_row(queue, self.subject.lane)
            .await?;
        self.caller.reserve(queue, 1).await
    }

    /// Publishes a job. Retries while the queue or the quota is full, and briefly while the queue can't be reached. The
    /// job's id makes a repeated publish harmless.
    async fn publish(&self, submission: &Submission) -> Result<JobHandle, Refusal> {
        let started = Instant::now();
        let max_wait = |code| match code {
            ErrorCode::QueueFull | ErrorCode::QuotaExceeded => self.state.batches().queue_patience(),
            ErrorCode::QueueUnavailable => RECONNECT_TIMEOUT,
            _ => Duration::ZERO,
        };
        // Once an attempt ended without an answer, no later refusal means that the job is not in the queue.
        let mut uncertain = None;
        loop {
            let published = match self.reserve().await {
                Ok(()) => submit::publish(&self.state, submission).await,
                Err(refusal) => Err(refusal),
            };
            match published {
                Err(refusal) if started.elapsed() < max_wait(refusal.code) => {
                    if refusal.code == ErrorCode::QueueUnavailable {
                        uncertain = Some(refusal.clone());
                    }
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_DELAY) => {}
                        () = self.state.stop().cancelled() => return Err(uncertain.unwrap_or(refusal)),
                    }
                }
                Err(refusal) => return Err(uncertain.unwrap_or(refusal)),
                Ok(handle) => return Ok(handle),
            }
        }
    }
}
