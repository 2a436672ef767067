//! Batch records in the stream `BATCHES`: a head, and the rows in chunks.

use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::{BatchChunk, BatchHead, chunk_of, head_of};
use precis_schemas::{JobId, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::queue::QueueBackend;

/// Reads the head of a tenant's batch.
///
/// # Errors
/// [`ErrorCode::BatchNotFound`], or if the queue can't be reached.
pub(crate) async fn head(
    queue: &dyn QueueBackend,
    tenant: &Token,
    batch: &JobId,
) -> Result<BatchHead, Refusal> {
    let head = find_head(queue, tenant, batch).await?;
    head.ok_or_else(|| not_found(batch))
}

/// Reads the head of a tenant's batch, if there is one.
///
/// # Errors
/// If the queue can't be reached.
pub(super) async fn find_head(
    queue: &dyn QueueBackend,
    tenant: &Token,
    batch: &JobId,
) -> Result<Option<BatchHead>, Refusal> {
    read(queue, head_of(tenant, batch)).await
}

/// The refusal of a batch that doesn't exist.
pub(super) fn not_found(batch: &JobId) -> Refusal {
    Refusal::new(
        ErrorCode::BatchNotFound,
        format!("there is no batch `{batch}`, or it is no longer kept"),
    )
}

/// Reads a chunk of a batch.
///
/// # Errors
/// [`ErrorCode::BatchNotFound`] if it is no longer kept, or if the queue can't be reached.
pub(super) async fn chunk(
    queue: &dyn QueueBackend,
    tenant: &Token,
    batch: &JobId,
    number: u64,
) -> Result<BatchChunk, Refusal> {
    read(queue, chunk_of(tenant, batch, number))
        .await?
        .ok_or_else(|| {
            Refusal::new(
                ErrorCode::BatchNotFound,
                format!("rows of the batch `{batch}` are no longer kept"),
            )
        })
}

/// Writes the head of a batch.
///
/// # Errors
/// If the queue can't be reached.
pub(super) async fn write_head(
    queue: &dyn QueueBackend,
    tenant: &Token,
    head: &BatchHead,
) -> Result<(), Refusal> {
    write(queue, head_of(tenant, &head.id), head).await
}

/// Writes a chunk of a batch.
///
/// # Errors
/// If the queue can't be reached.
pub(super) async fn write_chunk(
    queue: &dyn QueueBackend,
    tenant: &Token,
    batch: &JobId,
    number: u64,
    chunk: &BatchChunk,
) -> Result<(), Refusal> {
    write(queue, chunk_of(tenant, batch, number), chunk).await
}

async fn read<T: DeserializeOwned>(queue: &dyn QueueBackend, subject: String) -> Result<Option<T>, Refusal> {
    let Some(bytes) = queue.batch_record(subject.clone()).await? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        tracing::error!(%error, subject, "batch record is unreadable");
        Refusal::new(ErrorCode::Internal, "the record of the batch is unreadable")
    })
}

async fn write(queue: &dyn QueueBackend, subject: String, record: &impl Serialize) -> Result<(), Refusal> {
    // Strings, numbers and times always serialize.
    let body = serde_json::to_vec(record).unwrap_or_default();
    queue.put_batch_record(subject, body.into()).await
}
