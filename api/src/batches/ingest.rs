//! Receiving an upload: its rows are queued as they are read, with bounded concurrency.
//!
//! A row that can't become a job is a line in the results. An upload that fails leaves a broken batch: the error
//! names it, and the rows that were read run like any others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::Request;
use futures::{Stream, StreamExt, TryStreamExt};
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::{Announcement, Callback, WebhookSubject};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::{BatchHead, IntakeState};
use precis_schemas::{GenerationParams, JobId, JobSubject, Lane, Task};
use tokio::time::Instant;

use super::columns::ColumnOptions;
use super::options::{BatchOptions, deadline};
use super::pending::{MetadataKeys, PendingRows};
use super::progress::max_silence;
use super::publisher::Publisher;
use super::rows::{InputRow, rows_of_file, rows_of_list};
use super::store;
use super::upload::{self, Upload, UploadLimits};
use super::upload_key::{self, KeyHolder, UploadClaim, UploadDigest};
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::idempotency::{self, IdempotencyKey};
use crate::jobs::model;

/// Rows to publish concurrently.
const MAX_IN_FLIGHT: usize = 64;
/// How often to write the head of an upload in progress, so that the batch doesn't count as abandoned.
const HEAD_INTERVAL: Duration = Duration::from_secs(15);

/// A batch whose upload is in progress.
struct IncomingBatch {
    state: AppState,
    caller: Caller,
    trace: TraceContext,
    params: GenerationParams,
    subject: JobSubject,
    head: BatchHead,
    /// The CSV columns to keep.
    columns: ColumnOptions,
    pending: PendingRows,
    keys: MetadataKeys,
    callback: Option<Callback>,
    digest: UploadDigest,
    claim: Option<UploadClaim>,
    /// When the head was last written.
    head_written_at: Instant,
}

/// The outcome of an upload.
pub(super) enum Ingested {
    /// It is a new batch.
    New(BatchHead),
    /// It repeats an earlier upload with the same idempotency key, which is this batch.
    Replayed(BatchHead),
}

/// Receives an upload. The batch is accepted once this returns its head.
///
/// # Errors
/// If the upload is malformed, refused or interrupted, or the queue has no room for it. If rows were queued before
/// that, the message names the batch.
pub(super) async fn ingest(
    state: AppState,
    caller: Caller,
    options: BatchOptions,
    key: Option<IdempotencyKey>,
    request: Request,
    trace: TraceContext,
) -> Result<Ingested, ApiError> {
    let id = JobId::generate();
    let holder = match key {
        Some(key) => upload_key::claim(&state, caller.tenant(), key, &id)
            .await
            .map(Some),
        None => Ok(None),
    };
    let claim = match holder {
        Ok(None) => None,
        Ok(Some(KeyHolder::Current(claim))) => Some(claim),
        Ok(Some(KeyHolder::Complete(head))) => {
            let digest = upload_key::digest_of(&state, request).await?;
            return match head.digest.as_ref() == Some(&digest) {
                true => Ok(Ingested::Replayed(*head)),
                false => Err(idempotency::reused()),
            };
        }
        Err(error) => return Err(error),
    };
    // In its own task: the batch must be finished or marked as broken even if the client disconnects.
    let task = tokio::spawn(async move {
        let mut batch = match IncomingBatch::prepare(state.clone(), caller, id, options, trace).await {
            Ok(batch) => IncomingBatch { claim, ..batch },
            Err(refusal) => {
                if let Some(claim) = claim {
                    claim.release(&state, &refusal).await;
                }
                return Err(refusal.into());
            }
        };
        let received = batch.receive(request).await;
        if let (Err(error), Some(claim)) = (&received, &batch.claim) {
            claim.release(&state, &error.refusal()).await;
        }
        received.map(|()| Ingested::New(batch.head))
    });
    task.await
        .unwrap_or_else(|error| Err(ApiError::internal(&format!("a batch: {error}"))))
}

impl IncomingBatch {
    /// Validates everything that doesn't depend on the rows.
    async fn prepare(
        state: AppState,
        caller: Caller,
        id: JobId,
        options: BatchOptions,
        trace: TraceContext,
    ) -> Result<Self, Refusal> {
        options.params.validate()?;
        let deadline = deadline(&state, options.ttl_seconds)?;
        let subject = JobSubject {
            model: model::resolve(&state, options.model.as_deref()).await?,
            lane: options
                .priority
                .unwrap_or_else(|| caller.default_lane(Lane::Bulk)),
            task: Task::Summarize,
            tenant: caller.tenant().clone(),
        };
        caller.may_submit(subject.lane, &subject.model)?;
        model::check_length(&state, &subject.model, &options.params)?;
        let callback = state
            .webhooks()
            .callback(options.callback_url, &caller, state.queue())?;
        let now = clock::now();
        let head = BatchHead {
            id,
            subject: subject.to_string(),
            intake: IntakeState::Receiving,
            error: None,
            rows: 0,
            chunks: 0,
            deadline,
            created_at: now,
            updated_at: now,
            digest: None,
            id_column: options.id_column.clone(),
            columns: Vec::new(),
        };
        let columns = ColumnOptions {
            id: options.id_column,
            kept: options.columns,
            max_kept: state.limits().max_metadata_entries,
            max_value_bytes: state.limits().max_metadata_bytes,
        };
        Ok(Self {
            state,
            caller,
            trace,
            params: options.params,
            subject,
            head,
            columns,
            pending: PendingRows::default(),
            keys: MetadataKeys::default(),
            callback,
            digest: UploadDigest::default(),
            claim: None,
            head_written_at: Instant::now(),
        })
    }

    /// Reads the upload to its end and queues its rows.
    async fn receive(&mut self, request: Request) -> Result<(), ApiError> {
        let state = self.state.clone();
        let limits = UploadLimits::new(state.batches());
        let max_row_bytes = state.limits().max_row_bytes();
        let columns = self.columns.clone();
        match upload::of_request(request, state.batches())? {
            Upload::List(request) => {
                let body = upload::list(&state, *request).await?;
                self.digest.add_list(&body);
                self.receive_rows(futures::stream::iter(rows_of_list(&body)?).map(Ok))
                    .await
            }
            Upload::File(format, body) => {
                let chunks = self.digest.add_file(format, upload::body_chunks(body, limits));
                self.receive_rows(rows_of_file(format.parser(max_row_bytes, columns), chunks))
                    .await
            }
            Upload::Form(form) => {
                let (format, file) = form.file(limits).await?;
                let chunks = self.digest.add_file(format, file.chunks());
                self.receive_rows(rows_of_file(format.parser(max_row_bytes, columns), chunks))
                    .await
            }
        }
    }

    /// Queues the rows, and records how the upload ended.
    async fn receive_rows(
        &mut self,
        rows: impl Stream<Item = Result<InputRow, ApiError>> + Send,
    ) -> Result<(), ApiError> {
        let mut rows = std::pin::pin!(rows);
        // An upload without a readable row leaves no batch behind.
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
        // Announce before any row is queued, so that the webhook is sent even if this process dies during the upload.
        let outcome = match self.announce().await {
            Ok(()) => {
                let all = futures::stream::iter([Ok(first)]).chain(rows.as_mut());
                self.publish_rows(all).await
            }
            Err(refusal) => Err(refusal.into()),
        };
        self.end(outcome).await
    }

    /// Publishes rows until the stream ends or a row fails. Waits for the rows in flight even then, so that every job
    /// is recorded in a chunk.
    async fn publish_rows(
        &mut self,
        rows: impl Stream<Item = Result<InputRow, ApiError>> + Send,
    ) -> Result<(), ApiError> {
        let stop = self.state.stop().clone();
        let publisher = self.publisher();
        let closed = publisher.closed.clone();
        let keys = self.keys.clone();
        let published = rows
            .inspect_ok(move |row| keys.add(row))
            .take_until(stop.clone().cancelled_owned())
            .take_while(|_| std::future::ready(!closed.load(Ordering::Relaxed)))
            .enumerate()
            .map(|(index, row)| publisher.clone().publish_row(index as u64, row))
            .buffered(MAX_IN_FLIGHT);
        let mut published = std::pin::pin!(published);
        let mut failure = None;
        let mut head_tick = tokio::time::interval_at(Instant::now() + HEAD_INTERVAL, HEAD_INTERVAL);
        loop {
            let next = tokio::select! {
                next = published.next() => next,
                _ = head_tick.tick() => {
                    // A failure shows again when the next rows are written.
                    let _written = self.write_head().await;
                    continue;
                }
            };
            let Some(next) = next else { break };
            match next {
                Ok((row, error)) => {
                    self.pending.push(row);
                    failure = failure.or(error.map(ApiError::from));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
            if self.pending.is_full()
                && let Err(refusal) = self.write_rows().await
            {
                closed.store(true, Ordering::Relaxed);
                failure = failure.or(Some(refusal.into()));
            }
        }
        if failure.is_none() && stop.is_cancelled() {
            let reason = Refusal::new(ErrorCode::QueueUnavailable, "this server is shutting down");
            failure = Some(reason.into());
        }
        failure.map_or(Ok(()), Err)
    }

    fn publisher(&self) -> Publisher {
        Publisher {
            state: self.state.clone(),
            caller: self.caller.clone(),
            trace: self.trace.clone(),
            params: self.params.clone(),
            subject: self.subject.clone(),
            batch: self.head.id.clone(),
            id_column: self.head.id_column.clone(),
            deadline: self.head.deadline,
            closed: Arc::default(),
        }
    }

    /// Writes the rows that are not written yet, and the head.
    async fn write_rows(&mut self) -> Result<(), Refusal> {
        let chunk = self.pending.chunk();
        if chunk.rows.is_empty() {
            return Ok(());
        }
        let queue = self.state.queue();
        let tenant = self.caller.tenant();
        store::write_chunk(queue, tenant, &self.head.id, self.head.chunks, chunk).await?;
        self.head.rows += chunk.rows.len() as u64;
        self.head.chunks += 1;
        self.pending.clear();
        self.write_head().await
    }

    async fn write_head(&mut self) -> Result<(), Refusal> {
        self.head.updated_at = clock::now();
        self.head.columns = self.keys.list();
        store::write_head(self.state.queue(), self.caller.tenant(), &self.head).await?;
        self.head_written_at = Instant::now();
        Ok(())
    }

    /// Announces the webhook, if the batch has a callback. A gateway delivers it when the batch ends.
    async fn announce(&self) -> Result<(), Refusal> {
        let Some(callback) = self.callback.clone() else {
            return Ok(());
        };
        let announcement = Announcement {
            ended: WebhookSubject::Batch {
                id: self.head.id.clone(),
            },
            tenant: self.caller.tenant().clone(),
            callback,
            announced_at: clock::now(),
        };
        self.state
            .queue()
            .announce(&announcement, &announcement.webhook_id())
            .await
    }

    /// Completes the batch after its last row.
    async fn complete(&mut self) -> Result<(), ApiError> {
        if self.head_written_at.elapsed() > max_silence(self.state.batches()) {
            // A webhook may already have reported the batch as broken.
            return Err(ApiError::new(
                ErrorCode::QueueUnavailable,
                "the batch's record could not be written for too long",
            ));
        }
        self.write_rows().await?;
        if let Some(claim) = &mut self.claim {
            claim.complete(&self.state).await?;
        }
        self.head.digest = Some(self.digest.text());
        self.head.intake = IntakeState::Complete;
        self.write_head().await?;
        tracing::info!(batch = %self.head.id, rows = self.head.rows, "batch accepted");
        Ok(())
    }

    /// Completes the batch, or marks it as broken.
    async fn end(&mut self, outcome: Result<(), ApiError>) -> Result<(), ApiError> {
        let outcome = match outcome {
            Ok(()) => self.complete().await,
            Err(error) => Err(error),
        };
        let Err(error) = outcome else { return Ok(()) };
        self.head.intake = IntakeState::Broken;
        self.head.error = Some(error.refusal());
        tracing::warn!(batch = %self.head.id, rows = self.head.rows, code = %error.refusal().code, "batch is broken");
        let written = match self.write_rows().await {
            Ok(()) => self.write_head().await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = written {
            tracing::warn!(batch = %self.head.id, %refusal, "could not record the last rows of a broken batch");
        }
        Err(error.at(&format!("the batch {} is broken", self.head.id)))
    }
}
