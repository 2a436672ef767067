//! `Idempotency-Key` of an upload: the same one twice is one batch.
//!
//! What an upload says is known when it has been read, so that a key goes through three states:
//!
//! 1. It is taken by the upload that comes first, with the query, before the first row is read.
//! 2. When that upload has come to its end, what it has said is written down: the digest of its bytes. The same upload
//!    again is read, compared, and answered with the first one's batch; none of its rows is queued.
//! 3. An upload that does not come to its end frees its key; where its gateway died, the next one takes it over as soon
//!    as the batch counts as broken. That is a new batch: the rows of the broken one are jobs like any others.
//!
//! So at most one batch of a key is complete. An upload that was only slow, and whose key was taken over meanwhile, learns
//! that at its end, and is broken.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::{Head, Intake};
use precis_schemas::{JobId, Token};
use sha2::{Digest as _, Sha256};

use super::rows::FileFormat;
use super::store;
use super::tally::{is_abandoned, patience};
use super::upload::{self, Bounds, Upload};
use crate::http::problem::ApiError;
use crate::jobs::idempotency::{self, Call, Key};
use crate::queue::CreateOutcome;
use crate::state::AppState;

/// The digest of an upload, as it is read. Cheap to clone: all clones are the same digest.
#[derive(Debug, Clone, Default)]
pub(super) struct UploadDigest(Arc<Mutex<Sha256>>);

impl UploadDigest {
    fn add(&self, bytes: &[u8]) {
        // Bytes are added whole, so that a poisoned lock holds a usable state.
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(bytes);
    }

    /// Adds a JSON list.
    pub(super) fn add_list(&self, body: &[u8]) {
        self.add(b"list\n");
        self.add(body);
    }

    /// Adds the pieces of a file that go by. A file has the same digest alone and in a form.
    pub(super) fn of_file<'a>(
        &self,
        format: FileFormat,
        pieces: impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a,
    ) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a {
        self.add(match format {
            FileFormat::Csv => b"csv\n",
            FileFormat::JsonLines => b"jsonl\n",
        });
        let digest = self.clone();
        pieces.inspect_ok(move |piece| digest.add(piece))
    }

    /// In hexadecimal digits.
    pub(super) fn text(&self) -> String {
        let hasher = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Reads an upload to its end for its digest alone.
///
/// # Errors
/// When it can't be read to its end within the bounds of uploads.
pub(super) async fn digest_of(state: &AppState, request: Request) -> Result<String, ApiError> {
    let digest = UploadDigest::default();
    let bounds = Bounds::new(state.batches());
    match upload::of_request(request, state.batches()).await? {
        Upload::List(request) => digest.add_list(&upload::list(state, *request).await?),
        Upload::File(format, body) => read_on(digest.of_file(format, upload::of_body(body, bounds))).await?,
        Upload::Form(mut form) => {
            let (format, field) = upload::file_of_form(&mut form, &bounds).await?;
            read_on(digest.of_file(format, upload::of_field(field, bounds))).await?;
        }
    }
    Ok(digest.text())
}

async fn read_on(pieces: impl Stream<Item = Result<Bytes, ApiError>> + Send) -> Result<(), ApiError> {
    pieces.try_for_each(|_| std::future::ready(Ok(()))).await
}

/// A key that an upload has taken.
#[derive(Debug)]
pub(super) struct Claim {
    key: Key,
    batch: JobId,
    revision: u64,
}

/// Whose a key is.
pub(super) enum Owner {
    /// This upload's.
    This(Claim),
    /// That of the batch with this head, whose upload has come to its end.
    Complete(Box<Head>),
}

fn in_use(message: &str) -> ApiError {
    ApiError::new(ErrorCode::IdempotencyKeyInUse, message)
}

fn call_of(batch: &JobId, is_complete: bool) -> Call {
    Call {
        batch: Some(batch.clone()),
        ids: Vec::new(),
        sequences: is_complete.then(Vec::new),
        ..Call::default()
    }
}

/// Takes a key for the upload that will be `batch`, unless another upload has it.
///
/// # Errors
/// When the key belongs to another request, or to an upload that goes on, or the batch is no longer kept.
pub(super) async fn take(
    state: &AppState,
    tenant: &Token,
    key: Key,
    batch: &JobId,
) -> Result<Owner, ApiError> {
    let body = key.record_of(call_of(batch, false));
    let record = match state.queue().create_record(key.name(), body.clone()).await? {
        CreateOutcome::Created(revision) => {
            let batch = batch.clone();
            return Ok(Owner::This(Claim { key, batch, revision }));
        }
        CreateOutcome::Exists(record) => record,
    };
    let call = key.call_of(&record)?;
    // The fingerprint has the route in it, so that what is stored is a batch.
    let first = call.batch.ok_or_else(idempotency::reused)?;
    let goes_on = match store::find_head(state.queue(), tenant, &first).await? {
        Some(head) if head.intake == Intake::Complete => return Ok(Owner::Complete(Box::new(head))),
        Some(head) => head.intake == Intake::Receiving && !is_abandoned(state, &head),
        None if call.sequences.is_some() => return Err(store::not_found(&first).into()),
        // Its first row is still to come.
        None => idempotency::age(&record) < patience(state),
    };
    if goes_on {
        return Err(in_use("the first upload with this idempotency key goes on"));
    }
    match state
        .queue()
        .update_record(key.name(), record.revision, body)
        .await?
    {
        Some(revision) => {
            let batch = batch.clone();
            Ok(Owner::This(Claim { key, batch, revision }))
        }
        None => Err(in_use("another upload with this idempotency key came first")),
    }
}

impl Claim {
    /// Says that the upload has come to its end.
    ///
    /// # Errors
    /// When another one has taken the key over meanwhile.
    pub(super) async fn complete(&mut self, state: &AppState) -> Result<(), ApiError> {
        let body = self.key.record_of(call_of(&self.batch, true));
        let updated = state
            .queue()
            .update_record(self.key.name(), self.revision, body)
            .await?;
        self.revision = updated.ok_or_else(|| {
            in_use("another upload with this idempotency key has taken the place of this one, which took too long")
        })?;
        Ok(())
    }

    /// Frees the key of an upload that did not come to its end. If that fails, it is taken over when the batch counts as
    /// broken.
    pub(super) async fn free(&self, state: &AppState, why: &Refusal) {
        if why.code == ErrorCode::IdempotencyKeyInUse {
            return;
        }
        if let Err(refusal) = state.queue().remove_record(self.revision).await {
            tracing::warn!(batch = %self.batch, %refusal, "the key of a broken batch can't be freed");
        }
    }
}
