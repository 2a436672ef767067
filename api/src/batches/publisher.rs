//! A row to a job in the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{Channel, GenerationParams, Job, JobHandle, JobId, JobSubject, Task, manifest};
use tokio::time::Instant;

use super::rows::Row;
use crate::access::Caller;
use crate::http::problem::ApiError;
use crate::jobs::submit;
use crate::state::AppState;

/// Pause before a row is tried again for which there was no room.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a row waits for a queue that can't be reached: a server that is restarted must not break every upload.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// What it takes to publish a row. Cheap to clone.
#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) state: AppState,
    pub(super) caller: Caller,
    pub(super) trace: TraceContext,
    /// How to generate.
    pub(super) params: GenerationParams,
    /// Where all rows go.
    pub(super) subject: JobSubject,
    /// Their batch.
    pub(super) batch: JobId,
    pub(super) deadline: Timestamp,
    /// Whether no further row is to be begun with.
    pub(super) closed: Arc<AtomicBool>,
}

impl Publisher {
    /// Publishes a row, or says why it can't be a job. A failure that is not the row's own ends the batch: it is an error,
    /// or comes besides when there is a row that it has hit.
    pub(super) async fn place(
        self,
        index: u64,
        row: Result<Row, ApiError>,
    ) -> Result<(manifest::Row, Option<Refusal>), ApiError> {
        let row = self.accepted(index, row).inspect_err(|_| self.close())?;
        let placed = |sequence, refusal| manifest::Row {
            line: row.line,
            sequence,
            refusal,
        };
        let content = match row.content {
            Ok(content) => content,
            Err(refusal) => return Ok((placed(None, Some(refusal)), None)),
        };
        let batch = manifest::place_of(&self.batch, index);
        let id = batch
            .job_id()
            .ok_or_else(|| ApiError::internal("a batch with a long id"))?;
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
            return Ok((placed(None, Some(refusal)), None));
        }
        let submission = Submission {
            subject: self.subject.clone(),
            job,
            trace: self.trace.clone(),
        };
        match self.publish(&submission).await {
            Ok(handle) => Ok((placed(handle.sequence, None), None)),
            // Too large for a message, although not too long: that is the row's own fault.
            Err(refusal) if refusal.code == ErrorCode::BodyTooLarge => {
                Ok((placed(None, Some(refusal)), None))
            }
            Err(refusal) => {
                self.close();
                Ok((placed(None, Some(refusal.clone())), Some(refusal)))
            }
        }
    }

    /// No further row is begun with.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn accepted(&self, index: u64, row: Result<Row, ApiError>) -> Result<Row, ApiError> {
        let most = self.state.batches().max_rows;
        if row.is_ok() && index >= most {
            return Err(ApiError::new(
                ErrorCode::BodyTooLarge,
                format!("the upload has more than {most} rows"),
            ));
        }
        row
    }

    /// Publishes a job, and waits for room when there is none, and a little for a queue that can't be reached. The id
    /// makes a repeated publish harmless.
    async fn publish(&self, submission: &Submission) -> Result<JobHandle, Refusal> {
        let begun = Instant::now();
        let patience = |code| match code {
            ErrorCode::QueueFull | ErrorCode::QuotaExceeded => self.state.batches().queue_patience(),
            ErrorCode::QueueUnavailable => RECONNECT_PATIENCE,
            _ => Duration::ZERO,
        };
        loop {
            let published = match self.caller.reserve(self.state.queue(), 1).await {
                Ok(()) => submit::publish(&self.state, submission).await,
                Err(refusal) => Err(refusal),
            };
            match published {
                Err(refusal) if begun.elapsed() < patience(refusal.code) => {
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = self.state.stop().cancelled() => return Err(refusal),
                    }
                }
                published => return published,
            }
        }
    }
}
