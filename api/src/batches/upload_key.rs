//! Idempotent uploads, by the header `Idempotency-Key`.
//!
//! A key passes through these states, because the content of an upload is known only at its end:
//!
//! 1. The first upload claims the key before its first row is read. Only the query is compared so far.
//! 2. When that upload is complete, its batch records a digest of its bytes. A repeated upload is read and compared,
//!    and the response shows the first batch. None of the repeated rows is queued.
//! 3. An upload that fails releases its key. If its gateway died, the next upload takes the key over as soon as the
//!    batch counts as broken, and becomes a new batch. The rows of the broken batch run like any others.
//!
//! So at most one batch of a key is complete. A slow upload whose key was taken over fails at its end.

use std::sync::Arc;

use axum::extract::Request;
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use parking_lot::Mutex;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::{BatchHead, IntakeState};
use precis_schemas::{JobId, Token};
use sha2::{Digest as _, Sha256};

use super::progress::{is_abandoned, max_silence};
use super::store;
use super::upload::{self, FileFormat, Upload, UploadLimits};
use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::idempotency::{self, IdempotencyKey, IdempotencyRecord};
use crate::queue::CreateOutcome;

/// The running digest of an upload. Clones share the digest.
#[derive(Debug, Clone, Default)]
pub(super) struct UploadDigest(Arc<Mutex<Sha256>>);

impl UploadDigest {
    fn add(&self, bytes: &[u8]) {
        self.0.lock().update(bytes);
    }

    /// Adds a JSON list.
    pub(super) fn add_list(&self, body: &[u8]) {
        self.add(b"list\n");
        self.add(body);
    }

    /// Adds the chunks of a file as they pass. A file has the same digest as a body and in a form.
    pub(super) fn add_file<'a>(
        &self,
        format: FileFormat,
        chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a,
    ) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a {
        match format {
            FileFormat::Csv(None) => self.add(b"csv\n"),
            FileFormat::Csv(Some(charset)) => self.add(format!("csv {}\n", charset.name()).as_bytes()),
            FileFormat::JsonLines => self.add(b"jsonl\n"),
        }
        let digest = self.clone();
        chunks.inspect_ok(move |chunk| digest.add(chunk))
    }

    /// The digest in hexadecimal digits.
    pub(super) fn text(&self) -> String {
        let hasher = self.0.lock().clone();
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Reads an upload to its end and returns its digest.
///
/// # Errors
/// If the upload is malformed, or exceeds the limits.
pub(super) async fn digest_of(state: &AppState, request: Request) -> Result<String, ApiError> {
    let digest = UploadDigest::default();
    let limits = UploadLimits::new(state.batches());
    match upload::of_request(request, state.batches())? {
        Upload::List(request) => digest.add_list(&upload::list(state, *request).await?),
        Upload::File(format, body) => {
            drain(digest.add_file(format, upload::body_chunks(body, limits))).await?;
        }
        Upload::Form(form) => {
            let (format, file) = form.file(limits).await?;
            drain(digest.add_file(format, file.chunks())).await?;
        }
    }
    Ok(digest.text())
}

async fn drain(chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send) -> Result<(), ApiError> {
    chunks.try_for_each(|_| std::future::ready(Ok(()))).await
}

/// A key that an upload holds.
#[derive(Debug)]
pub(super) struct UploadClaim {
    key: IdempotencyKey,
    batch: JobId,
    revision: u64,
}

/// The holder of a key.
pub(super) enum KeyHolder {
    /// The current upload.
    Current(UploadClaim),
    /// An earlier upload that is complete, with the head of its batch.
    Complete(Box<BatchHead>),
}

fn in_use(message: &str) -> ApiError {
    ApiError::new(ErrorCode::IdempotencyKeyInUse, message)
}

fn record_of(batch: &JobId, is_complete: bool) -> IdempotencyRecord {
    IdempotencyRecord {
        batch: Some(batch.clone()),
        is_accepted: is_complete,
        ..IdempotencyRecord::default()
    }
}

/// Claims a key for the upload that becomes `batch`, unless another upload holds it.
///
/// # Errors
/// If the key belongs to another request or to an upload in progress, or if the batch is no longer kept.
pub(super) async fn claim(
    state: &AppState,
    tenant: &Token,
    key: IdempotencyKey,
    batch: &JobId,
) -> Result<KeyHolder, ApiError> {
    let claimed = |key, revision| {
        let batch = batch.clone();
        Ok(KeyHolder::Current(UploadClaim { key, batch, revision }))
    };
    let body = key.encode(record_of(batch, false));
    let stored = match state.queue().create_record(key.name(), body.clone()).await? {
        CreateOutcome::Created(revision) => return claimed(key, revision),
        CreateOutcome::Exists(stored) => stored,
    };
    let record = key.decode(&stored.body)?;
    // The fingerprint includes the route, so every record of this key has a batch.
    let first = record.batch.ok_or_else(idempotency::reused)?;
    let is_in_progress = match store::find_head(state.queue(), tenant, &first).await? {
        Some(head) if head.intake == IntakeState::Complete => return Ok(KeyHolder::Complete(Box::new(head))),
        Some(head) => head.intake == IntakeState::Receiving && !is_abandoned(state.batches(), &head),
        None if record.is_accepted => return Err(store::not_found(&first).into()),
        // The first upload has not read its first row yet.
        None => idempotency::age(&stored) < max_silence(state.batches()),
    };
    if is_in_progress {
        return Err(in_use(
            "the first upload with this idempotency key is still in progress",
        ));
    }
    let updated = state
        .queue()
        .update_record(key.name(), stored.revision, body)
        .await?;
    match updated {
        Some(revision) => claimed(key, revision),
        None => Err(in_use("another upload with this idempotency key came first")),
    }
}

impl UploadClaim {
    /// Records that the upload is complete.
    ///
    /// # Errors
    /// If another upload has taken the key over.
    pub(super) async fn complete(&mut self, state: &AppState) -> Result<(), ApiError> {
        let body = self.key.encode(record_of(&self.batch, true));
        let updated = state
            .queue()
            .update_record(self.key.name(), self.revision, body)
            .await?;
        self.revision = updated.ok_or_else(|| {
            in_use("this upload took too long, and another upload has taken over its idempotency key")
        })?;
        Ok(())
    }

    /// Releases the key of a failed upload. If that fails, another upload can take it over once the batch counts as
    /// broken.
    pub(super) async fn release(&self, state: &AppState, reason: &Refusal) {
        if reason.code == ErrorCode::IdempotencyKeyInUse {
            return;
        }
        if let Err(refusal) = state.queue().remove_record(self.revision).await {
            tracing::warn!(batch = %self.batch, %refusal, "could not release the idempotency key of a broken batch");
        }
    }
}
