//! An upload to a batch: its rows are queued as they are read, with bounded concurrency.
//!
//! A row that can't be a job is a line in the results. An upload that doesn't come to its end makes a broken batch:
//! its client is told so, and its id; the rows before that are jobs like any others, with their lines in the results.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::Request;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::{Announcement, Callback, Ended};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::{CHUNK_ROWS, Chunk, Head, Intake};
use precis_schemas::{GenerationParams, JobId, JobSubject, Lane, Task};
use serde::Serialize;
use tokio::time::Instant;

use super::key::{self, Claim, Owner, UploadDigest};
use super::publisher::Publisher;
use super::rows::{Row, rows_of_file, rows_of_list};
use super::store;
use super::tally::patience;
use super::upload::{self, Bounds, Upload};
use crate::access::Caller;
use crate::http::extract;
use crate::http::problem::ApiError;
use crate::jobs::idempotency::{self, Key};
use crate::jobs::model;
use crate::state::AppState;
use crate::webhooks;

/// Rows that are on their way to the queue at once.
const IN_FLIGHT: usize = 64;
/// How often the head of an upload that goes on is written at least: nobody takes it for abandoned.
const REFRESH: Duration = Duration::from_secs(15);

/// How long the rest of a broken upload is read, only to be thrown away.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// What all rows of a batch have in common.
#[derive(Debug, Clone, Default, Serialize)]
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
    digest: UploadDigest,
    claim: Option<Claim>,
    /// When the head was last written: others take a batch for abandoned of which they hear nothing.
    written: Instant,
}

/// What became of an upload.
pub(crate) enum Taken {
    /// It is a batch now.
    Now(Head),
    /// It was one before: another one with the same idempotency key was first.
    Before(Head),
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
    key: Option<Key>,
    request: Request,
    trace: TraceContext,
) -> Result<Taken, ApiError> {
    let id = JobId::generate();
    let owner = match key {
        Some(key) => key::take(&state, caller.tenant(), key, &id).await.map(Some),
        None => Ok(None),
    };
    let claim = match owner {
        Ok(None) => None,
        Ok(Some(Owner::This(claim))) => Some(claim),
        Ok(Some(Owner::Complete(head))) => {
            let digest = key::digest_of(&state, request).await?;
            return match head.digest.as_ref() == Some(&digest) {
                true => Ok(Taken::Before(*head)),
                false => Err(idempotency::reused()),
            };
        }
        Err(error) => {
            extract::leave(request).await;
            return Err(error);
        }
    };
    // On its own, so that it comes to a good end also when the client goes away.
    let taken = tokio::spawn(async move {
        let mut batch = match Batch::prepare(state.clone(), caller, id, options, trace).await {
            Ok(batch) => Batch { claim, ..batch },
            Err(refusal) => {
                if let Some(claim) = claim {
                    claim.free(&state, &refusal).await;
                }
                extract::leave(request).await;
                return Err(refusal.into());
            }
        };
        let read = batch.read(request).await;
        if let (Err(error), Some(claim)) = (&read, &batch.claim) {
            claim.free(&state, &error.refusal()).await;
        }
        read.map(|()| Taken::Now(batch.head))
    });
    taken
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(&format!("a batch: {error}"))))
}

impl Batch {
    /// Checks what can be known before the first row.
    async fn prepare(
        state: AppState,
        caller: Caller,
        id: JobId,
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
        let callback = webhooks::asked_for(&state, &caller, options.callback_url)?;
        let now = clock::now();
        let head = Head {
            id,
            subject: subject.to_string(),
            intake: Intake::Receiving,
            error: None,
            rows: 0,
            chunks: 0,
            deadline,
            created_at: now,
            updated_at: now,
            digest: None,
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
            digest: UploadDigest::default(),
            claim: None,
            written: Instant::now(),
        })
    }

    /// Reads the upload to its end, and makes jobs of its rows.
    async fn read(&mut self, request: Request) -> Result<(), ApiError> {
        let state = self.state.clone();
        let bounds = Bounds::new(state.batches());
        let max_row_bytes = state.limits().max_row_bytes();
        match upload::of_request(request, state.batches()).await? {
            Upload::List(request) => {
                let body = upload::list(&state, *request).await?;
                self.digest.add_list(&body);
                self.fill(futures::stream::iter(rows_of_list(&body)?).map(Ok))
                    .await
            }
            Upload::File(format, body) => {
                let pieces = self.digest.of_file(format, upload::of_body(body, bounds));
                self.fill(rows_of_file(format, max_row_bytes, pieces)).await
            }
            Upload::Form(mut form) => {
                let (format, field) = upload::file_of_form(&mut form, &bounds).await?;
                let pieces = self.digest.of_file(format, upload::of_field(field, bounds));
                self.fill(rows_of_file(format, max_row_bytes, pieces)).await
            }
        }
    }

    /// Makes jobs of the rows.
    async fn fill(&mut self, rows: impl Stream<Item = Result<Row, ApiError>> + Send) -> Result<(), ApiError> {
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
        // Before any row is queued: however the upload ends, and if it is with this process, its end is posted.
        let outcome = match self.announce().await {
            Ok(()) => {
                let all = futures::stream::iter([Ok(first)]).chain(rows.as_mut());
                self.publish_all(all).await
            }
            Err(refusal) => Err(refusal.into()),
        };
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
        let publisher = self.publisher();
        let closed = publisher.closed.clone();
        let placed = rows
            .take_until(stop.clone().cancelled_owned())
            .take_while(|_| std::future::ready(!closed.load(Ordering::Relaxed)))
            .enumerate()
            .map(|(index, row)| publisher.clone().place(index as u64, row))
            .buffered(IN_FLIGHT);
        let mut placed = std::pin::pin!(placed);
        let mut failure = None;
        let mut refresh = tokio::time::interval_at(Instant::now() + REFRESH, REFRESH);
        loop {
            let next = tokio::select! {
                next = placed.next() => next,
                _ = refresh.tick() => {
                    // If it can't be written, that is noticed with the next rows.
                    let _written = self.write_head().await;
                    continue;
                }
            };
            let Some(next) = next else { break };
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

    fn publisher(&self) -> Publisher {
        Publisher {
            state: self.state.clone(),
            caller: self.caller.clone(),
            trace: self.trace.clone(),
            params: self.params.clone(),
            subject: self.subject.clone(),
            batch: self.head.id.clone(),
            deadline: self.head.deadline,
            closed: Arc::default(),
        }
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
        self.head.updated_at = clock::now();
        store::write_head(self.state.queue(), self.caller.tenant(), &self.head).await?;
        self.written = Instant::now();
        Ok(())
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
            announced_at: clock::now(),
        };
        self.state.queue().announce(&announcement).await
    }

    /// Writes what is left, when all rows have come.
    async fn finish(&mut self) -> Result<(), ApiError> {
        if self.written.elapsed() > patience(&self.state) {
            // Somebody may have said that it is broken.
            return Err(ApiError::new(
                ErrorCode::QueueUnavailable,
                "nothing could be written of the batch for too long",
            ));
        }
        self.write_rows().await?;
        if let Some(claim) = &mut self.claim {
            claim.complete(&self.state).await?;
        }
        self.head.digest = Some(self.digest.text());
        self.head.intake = Intake::Complete;
        self.write_head().await?;
        tracing::info!(batch = %self.head.id, rows = self.head.rows, "accepted a batch");
        Ok(())
    }

    /// Writes how it ended.
    async fn end(&mut self, outcome: Result<(), ApiError>) -> Result<(), ApiError> {
        let outcome = match outcome {
            Ok(()) => self.finish().await,
            Err(error) => Err(error),
        };
        let Err(error) = outcome else { return Ok(()) };
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
    clock::now()
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .map_err(|error| Refusal::new(ErrorCode::InvalidParameter, error.to_string()))
}
