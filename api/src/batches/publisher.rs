//! Publishing rows as jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{Channel, GenerationParams, Job, JobHandle, JobId, JobSubject, Task, manifest};
use tokio::time::Instant;

use super::rows::InputRow;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::submit;

/// Delay before a row that the queue refused is published again.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// How long a row waits for the queue to be reachable again, so that an upload survives a restart of a NATS server.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
        let record = |sequence, refusal| manifest::BatchRow {
            line: row.line,
            sequence,
            refusal,
        };
        let content = match row.content {
            Ok(content) => content,
            Err(refusal) => return Ok((record(None, Some(refusal)), None)),
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
            metadata: content.metadata,
            send_to_arize: None,
            callback: None,
        };
        if let Err(refusal) = job.validate(Task::Summarize, &self.state.limits().job()) {
            return Ok((record(None, Some(refusal)), None));
        }
        let submission = Submission {
            subject: self.subject.clone(),
            job,
            trace: self.trace.clone(),
        };
        match self.publish(&submission).await {
            Ok(handle) => Ok((record(handle.sequence, None), None)),
            // The row is too large for a message. The others may fit.
            Err(refusal) if refusal.code == ErrorCode::BodyTooLarge => {
                Ok((record(None, Some(refusal)), None))
            }
            Err(refusal) => {
                self.close();
                Ok((record(None, Some(refusal.clone())), Some(refusal)))
            }
        }
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
