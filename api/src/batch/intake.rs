//! Rows to jobs, as they are read, with bounded concurrency.
//!
//! A row that can't be a job is a line in the results. An upload that doesn't come to its end makes a broken batch:
//! its client is told so, and its id; the rows before that are jobs like any others, with their lines in the results.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::extract::multipart::Multipart;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::{Announcement, Callback, Ended};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::{self, CHUNK_ROWS, Chunk, Head, Intake};
use precis_schemas::{Channel, GenerationParams, Job, JobHandle, JobId, JobSubject, Lane, Task, time};
use tokio::time::Instant;

use super::rows::{Row, rows_of_file, rows_of_list};
use super::store;
use super::upload::{self, Bounds, Upload};
use crate::access::Caller;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::{extract, model, submit, webhook};

/// Rows that are on their way to the queue at once.
const IN_FLIGHT: usize = 64;
/// Pause before a row is tried again for which there was no room.
const PAUSE: Duration = Duration::from_millis(250);

/// How long the rest of a broken upload is read, only to be thrown away.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// What all rows of a batch have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Name of a served model.
    pub(crate) model: Option<String>,
    /// Priority; `bulk` without one.
    pub(crate) priority: Option<Lane>,
    /// Deadline, in seconds from now.
    pub(crate) ttl_seconds: Option<u64>,
    /// How to generate.
    pub(crate) params: GenerationParams,
    /// Post the batch's end to this address.
    pub(crate) callback_url: Option<String>,
}

/// A batch that is being taken in.
struct Batch {
    state: AppState,
    caller: Caller,
    trace: TraceContext,
    params: GenerationParams,
    subject: JobSubject,
    head: Head,
    chunk: Chunk,
    callback: Option<Callback>,
}

/// Takes a batch in; it is accepted when this returns its head.
///
/// # Errors
/// When it can't be read, may not be submitted, did not come to its end, or the queue has no room for it. If rows
/// were queued before that, the message names the batch.
pub(crate) async fn take(
    state: AppState,
    caller: Caller,
    options: Options,
    request: Request,
    trace: TraceContext,
) -> Result<Head, ApiError> {
    let batch = match Batch::prepare(state.clone(), caller, options, trace).await {
        Ok(batch) => batch,
        Err(refusal) => {
            extract::leave(request).await;
            return Err(refusal.into());
        }
    };
    let limits = state.batches();
    let bounds = Bounds::new(limits);
    let upload = upload::of_request(request, limits).await?;
    // On its own, so that it comes to a good end also when the client goes away.
    let taken = tokio::spawn(async move {
        match upload {
            Upload::List(request) => {
                let patience = state.http().body_timeout();
                let body = extract::read_body(*request, state.limits().max_body_bytes, patience).await?;
                let rows = rows_of_list(&body)?;
                batch.fill(futures::stream::iter(rows).map(Ok)).await
            }
            Upload::File(format, body) => {
                let pieces = upload::of_body(body, bounds);
                let rows = rows_of_file(format, state.limits().max_row_bytes(), pieces);
                batch.fill(rows).await
            }
            Upload::Form(form) => fill_from_form(batch, form, bounds).await,
        }
    });
    taken
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(&format!("a batch: {error}"))))
}

async fn fill_from_form(batch: Batch, mut form: Box<Multipart>, bounds: Bounds) -> Result<Head, ApiError> {
    let max_row_bytes = batch.state.limits().max_row_bytes();
    let (format, field) = upload::file_of_form(&mut form, &bounds).await?;
    let pieces = upload::of_field(field, bounds);
    batch.fill(rows_of_file(format, max_row_bytes, pieces)).await
}

impl Batch {
    /// Checks what can be known before the first row.
    async fn prepare(
        state: AppState,
        caller: Caller,
        options: Options,
        trace: TraceContext,
    ) -> Result<Self, Refusal> {
        options.params.validate()?;
        let deadline = deadline(&state, options.ttl_seconds)?;
        let subject = JobSubject {
            model: model::resolve(&state, options.model.as_deref()).await?,
            lane: options.priority.unwrap_or(Lane::Bulk),
            task: Task::Summarize,
            tenant: caller.tenant().clone(),
        };
        caller.may_submit(subject.lane, &subject.model)?;
        let callback = webhook::asked_for(&state, &caller, options.callback_url)?;
        let now = time::now();
        let head = Head {
            id: JobId::generate(),
            subject: subject.to_string(),
            intake: Intake::Receiving,
            error: None,
            rows: 0,
            chunks: 0,
            deadline,
            created_at: now,
            updated_at: now,
        };
        Ok(Self {
            state,
            caller,
            trace,
            params: options.params,
            subject,
            head,
            chunk: Chunk::default(),
            callback,
        })
    }

    /// Makes jobs of the rows.
    async fn fill(
        mut self,
        rows: impl Stream<Item = Result<Row, ApiError>> + Send,
    ) -> Result<Head, ApiError> {
        let mut rows = std::pin::pin!(rows);
        // What can't be read at all leaves no trace.
        let first = match rows.next().await {
            Some(row) => row?,
            None => {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "there are no rows in the upload",
                ));
            }
        };
        self.write_head().await?;
        let all = futures::stream::iter([Ok(first)]).chain(rows.as_mut());
        let outcome = self.publish_all(all).await;
        if outcome.is_err() {
            // A client that is cut off while it still writes sees a broken connection instead of the reason.
            let rest = async { while let Some(Ok(_)) = rows.next().await {} };
            let _within_time = tokio::time::timeout(LONGEST_REST, rest).await;
        }
        self.end(outcome).await
    }

    /// Publishes rows until there are no more, or one fails. Those that are on their way then come to an end too, so that
    /// there is no job of the batch that its chunks don't tell of.
    async fn publish_all(
        &mut self,
        rows: impl Stream<Item = Result<Row, ApiError>> + Send,
    ) -> Result<(), ApiError> {
        let stop = self.state.stop().clone();
        let publisher = Publisher::of(self);
        let closed = publisher.closed.clone();
        let placed = rows
            .take_until(stop.clone().cancelled_owned())
            .take_while(|_| std::future::ready(!closed.load(Ordering::Relaxed)))
            .enumerate()
            .map(|(index, row)| publisher.clone().place(index as u64, row))
            .buffered(IN_FLIGHT);
        let mut placed = std::pin::pin!(placed);
        let mut failure = None;
        while let Some(next) = placed.next().await {
            match next {
                Ok((row, error)) => {
                    self.chunk.rows.push(row);
                    failure = failure.or(error.map(ApiError::from));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
            if self.chunk.rows.len() >= CHUNK_ROWS
                && let Err(refusal) = self.write_rows().await
            {
                closed.store(true, Ordering::Relaxed);
                failure = failure.or(Some(refusal.into()));
            }
        }
        if failure.is_none() && stop.is_cancelled() {
            let reason = Refusal::new(ErrorCode::QueueUnavailable, "this server is about to stop");
            failure = Some(reason.into());
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes the rows that are not written yet.
    async fn write_rows(&mut self) -> Result<(), Refusal> {
        if self.chunk.rows.is_empty() {
            return Ok(());
        }
        let queue = self.state.queue();
        let tenant = self.caller.tenant();
        store::write_chunk(queue, tenant, &self.head.id, self.head.chunks, &self.chunk).await?;
        self.head.rows += self.chunk.rows.len() as u64;
        self.head.chunks += 1;
        self.chunk.rows.clear();
        self.write_head().await
    }

    async fn write_head(&mut self) -> Result<(), Refusal> {
        self.head.updated_at = time::now();
        store::write_head(self.state.queue(), self.caller.tenant(), &self.head).await
    }

    /// Has the batch's end posted, when it is there.
    async fn announce(&self) -> Result<(), Refusal> {
        let Some(callback) = self.callback.clone() else {
            return Ok(());
        };
        let announcement = Announcement {
            ended: Ended::Batch {
                id: self.head.id.clone(),
            },
            tenant: self.caller.tenant().clone(),
            callback,
            announced_at: time::now(),
        };
        self.state.queue().announce(&announcement).await
    }

    /// Writes how it ended.
    async fn end(mut self, outcome: Result<(), ApiError>) -> Result<Head, ApiError> {
        let outcome = match outcome {
            Ok(()) => self.write_rows().await.map_err(ApiError::from),
            Err(error) => Err(error),
        };
        let Err(error) = outcome else {
            self.head.intake = Intake::Complete;
            self.write_head().await?;
            self.announce().await?;
            tracing::info!(batch = %self.head.id, rows = self.head.rows, "accepted a batch");
            return Ok(self.head);
        };
        self.head.intake = Intake::Broken;
        self.head.error = Some(error.refusal());
        tracing::warn!(batch = %self.head.id, rows = self.head.rows, code = %error.refusal().code, "a batch is broken");
        let written = match self.write_rows().await {
            Ok(()) => self.write_head().await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = written {
            tracing::warn!(batch = %self.head.id, %refusal, "what is left of a broken batch could not be written");
        }
        Err(error.at(&format!("the batch {} is broken", self.head.id)))
    }
}

/// What it takes to publish a row. Cheap to clone.
#[derive(Clone)]
struct Publisher {
    state: AppState,
    caller: Caller,
    trace: TraceContext,
    params: GenerationParams,
    subject: JobSubject,
    batch: JobId,
    deadline: Timestamp,
    closed: Arc<AtomicBool>,
}

impl Publisher {
    fn of(batch: &Batch) -> Self {
        Self {
            state: batch.state.clone(),
            caller: batch.caller.clone(),
            trace: batch.trace.clone(),
            params: batch.params.clone(),
            subject: batch.subject.clone(),
            batch: batch.head.id.clone(),
            deadline: batch.head.deadline,
            closed: Arc::default(),
        }
    }

    /// Publishes a row, or says why it can't be a job. A failure that is not the row's own ends the batch: it is an error,
    /// or comes besides when there is a row that it has hit.
    async fn place(
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
    fn close(&self) {
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

    /// Publishes a job, and waits for room when there is none.
    async fn publish(&self, submission: &Submission) -> Result<JobHandle, Refusal> {
        let give_up = Instant::now() + self.state.batches().queue_patience();
        loop {
            let published = match self.caller.reserve(self.state.queue(), 1).await {
                Ok(()) => submit::publish(&self.state, submission).await,
                Err(refusal) => Err(refusal),
            };
            match published {
                Err(refusal)
                    if matches!(refusal.code, ErrorCode::QueueFull | ErrorCode::QuotaExceeded)
                        && Instant::now() < give_up =>
                {
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

fn deadline(state: &AppState, ttl_seconds: Option<u64>) -> Result<Timestamp, Refusal> {
    let ttl = ttl_seconds.unwrap_or(state.batches().default_ttl_seconds);
    let most = state.result_ttl_hours() * 3_600;
    if ttl == 0 || ttl > most {
        return Err(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("ttl_seconds of a batch must be 1 to {most}, and is {ttl}"),
        ));
    }
    let seconds = i64::try_from(ttl).unwrap_or(i64::MAX);
    time::now()
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .map_err(|error| Refusal::new(ErrorCode::InvalidParameter, error.to_string()))
}
