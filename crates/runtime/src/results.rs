//! Reads job results from the stream `RESULTS`, and publishes them for jobs that end without a worker.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use async_nats::{Client, HeaderMap};
use futures::StreamExt;
use precis_schemas::decode_error::describe;
use precis_schemas::topology::RESULTS;
use precis_schemas::{JobId, JobResult, subject, time};

use crate::clock;
use crate::nats::is_missing;
use crate::texts;
use crate::topology;
use crate::trace_context::TraceContext;

/// Most results that one request asks for. The server accepts 1,024.
pub const MAX_AT_ONCE: usize = 500;
/// How long the server may take for the next of several results.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// A failure to read a result. A missing result is not an error.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The server or the stream is unreachable.
    #[error("can't read results: {0}")]
    Unavailable(#[from] jetstream::stream::DirectGetError),
    /// The leader of the stream is unreachable.
    #[error("can't read from the leader of RESULTS: {0}")]
    Leader(#[from] jetstream::stream::RawMessageError),
    /// The server does not answer for several results at once.
    #[error("can't read results: {0}")]
    Request(String),
    /// The stream does not exist.
    #[error(transparent)]
    Topology(#[from] topology::TopologyError),
    /// The result can't be decoded.
    #[error("can't decode the result of job {id}: {}", describe(source))]
    Decode {
        /// The job.
        id: JobId,
        /// The cause.
        source: serde_json::Error,
    },
}

/// A result and its position in the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResult {
    /// The result.
    pub result: JobResult,
    /// Its sequence in `RESULTS`.
    pub sequence: u64,
    /// Time at which the stream stored it.
    pub stored_at: jiff::Timestamp,
}

/// Reads results. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Results {
    stream: Stream,
    client: Client,
}

impl Results {
    /// Opens the stream.
    ///
    /// # Errors
    /// If the stream does not exist.
    pub async fn open(jetstream: &jetstream::Context) -> Result<Self, ResultError> {
        Ok(Self {
            stream: topology::stream(jetstream, RESULTS).await?,
            client: jetstream.client(),
        })
    }

    /// Returns those results of the given jobs that exist, at most [`MAX_AT_ONCE`], with one request. A result that
    /// can't be decoded is a failed one. Some may be missing although they exist: ask again.
    ///
    /// # Errors
    /// If the stream is unreachable.
    pub async fn get_many(
        &self,
        ids: &[JobId],
    ) -> Result<Vec<(JobId, Result<JobResult, String>)>, ResultError> {
        let failed = |error: &dyn std::fmt::Display| ResultError::Request(error.to_string());
        let subjects: Vec<String> = ids.iter().take(MAX_AT_ONCE).map(subject::result_of).collect();
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let body = serde_json::json!({"multi_last": subjects}).to_string();
        let inbox = self.client.new_inbox();
        let mut replies = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| failed(&error))?;
        self.client
            .publish_with_reply(format!("$JS.API.DIRECT.GET.{RESULTS}"), inbox, body.into())
            .await
            .map_err(|error| failed(&error))?;
        let mut found = Vec::new();
        loop {
            let reply = tokio::time::timeout(REPLY_TIMEOUT, replies.next()).await;
            let Some(message) = reply.map_err(|_| failed(&"no answer in time"))? else {
                return Err(failed(&"the connection was closed"));
            };
            match message.status.map(|status| status.as_u16()) {
                None => {
                    let subject = message
                        .headers
                        .as_ref()
                        .and_then(|headers| headers.get("Nats-Subject"));
                    let id = subject.and_then(|subject| subject.as_str().rsplit('.').next()?.parse().ok());
                    let id: JobId = id.ok_or_else(|| failed(&"a result without its subject"))?;
                    let result = serde_json::from_slice(&message.payload);
                    found.push((id, result.map_err(|error| describe(&error))));
                }
                // The last of them was sent, or there are none.
                Some(204 | 404) => return Ok(found),
                Some(status) => {
                    let text = message.description.unwrap_or_default();
                    return Err(failed(&format!("status {status} {text}")));
                }
            }
        }
    }

    /// Returns the result of a job; `None` before it ends and after the result expires.
    ///
    /// # Errors
    /// If the stream is unreachable or the result can't be decoded.
    pub async fn get(&self, id: &JobId) -> Result<Option<StoredResult>, ResultError> {
        let message = match self
            .stream
            .direct_get_last_for_subject(subject::result_of(id))
            .await
        {
            Ok(message) => message,
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        read(id, &message).map(Some)
    }

    /// Returns the result of a job from the stream's leader, which knows all stored results. Replicas may lag behind.
    ///
    /// # Errors
    /// If the leader is unreachable or the result can't be decoded.
    pub async fn get_from_leader(&self, id: &JobId) -> Result<Option<StoredResult>, ResultError> {
        let subject = subject::result_of(id);
        let message = match self.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        read(id, &message).map(Some)
    }

    /// Returns the sequence of the stored result that the job at `job_sequence` of `JOBS` supersedes: that of an
    /// earlier, cancelled job with the same id. Returns `None` if there is no result, or a final one.
    ///
    /// # Errors
    /// As [`get_from_leader`](Self::get_from_leader).
    pub async fn superseded_sequence(
        &self,
        id: &JobId,
        job_sequence: u64,
    ) -> Result<Option<u64>, ResultError> {
        let stored = self.get_from_leader(id).await?;
        Ok(stored
            .filter(|stored| stored.result.is_superseded_by(job_sequence))
            .map(|stored| stored.sequence))
    }
}

/// Publishes the result of a job that ended without a worker, in the trace of `job`, its message in `JOBS`. Stores its
/// text before.
///
/// The result replaces the one at sequence `earlier` of `RESULTS`, or is the job's first if `earlier` is 0.
///
/// # Errors
/// If the job has another result meanwhile, or the stream does not store this one.
pub async fn publish_terminated(
    jetstream: &jetstream::Context,
    job: &StreamMessage,
    result: &JobResult,
    earlier: u64,
) -> Result<(), PublishError> {
    let record = texts::store(jetstream, result).await?;
    let mut headers = HeaderMap::new();
    if let Some(trace) = TraceContext::from_message(Some(&job.headers)) {
        trace.write_to(&mut headers);
    }
    let publish = PublishMessage::build()
        .headers(headers)
        // Strings, numbers and times always serialize.
        .payload(serde_json::to_vec(&record).unwrap_or_default().into())
        .expected_last_subject_sequence(earlier);
    let subject = subject::result_of(&result.id);
    jetstream.send_publish(subject, publish).await?.await?;
    Ok(())
}

fn read(id: &JobId, message: &StreamMessage) -> Result<StoredResult, ResultError> {
    let result = serde_json::from_slice(&message.payload).map_err(|source| ResultError::Decode {
        id: id.clone(),
        source,
    })?;
    let stored_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos())
        .map_or_else(|_| clock::now(), time::to_millis);
    Ok(StoredResult {
        result,
        sequence: message.sequence,
        stored_at,
    })
}
