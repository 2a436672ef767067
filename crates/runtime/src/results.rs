//! Reading results: one completion record per job, found by the job's id.

use crate::clock;
use crate::topology;
use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind, Stream};
use precis_schemas::decode_error::describe;
use precis_schemas::topology::RESULTS;
use precis_schemas::{JobId, JobResult, subject, time};

/// Why a result could not be read. A result that does not exist is no error.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The server or the stream can't be reached.
    #[error("results can't be read: {0}")]
    Unavailable(#[from] jetstream::stream::DirectGetError),
    /// The leader of the stream can't be reached.
    #[error("the leader of the results can't be asked: {0}")]
    Leader(#[from] jetstream::stream::RawMessageError),
    /// The stream is not there.
    #[error(transparent)]
    Topology(#[from] topology::TopologyError),
    /// The record is not of a known version.
    #[error("the result of job {id} can't be read: {}", describe(source))]
    Decode {
        /// The job.
        id: JobId,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A result and where it stands in the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResult {
    /// The completion record.
    pub result: JobResult,
    /// Its sequence in `RESULTS`.
    pub sequence: u64,
    /// When the stream took it.
    pub stored_at: jiff::Timestamp,
}

/// Reads results. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Results {
    stream: Stream,
}

impl Results {
    /// A reader on this connection.
    ///
    /// # Errors
    /// When the stream is not there.
    pub async fn open(jetstream: &jetstream::Context) -> Result<Self, ResultError> {
        Ok(Self {
            stream: topology::stream(jetstream, RESULTS).await?,
        })
    }

    /// The result of a job; none when there is none yet, or no longer.
    ///
    /// # Errors
    /// When the stream can't be reached or the record can't be read.
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

    /// As [`get`](Self::get), from the leader of the stream: what was stored before is seen, in a cluster too.
    ///
    /// # Errors
    /// When the leader can't be reached or the record can't be read.
    pub async fn get_from_leader(&self, id: &JobId) -> Result<Option<StoredResult>, ResultError> {
        let subject = subject::result_of(id);
        let message = match self.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        read(id, &message).map(Some)
    }

    /// Where the record stands that gives way to that of the job at `job_sequence` of `JOBS`: the one of an earlier job
    /// of the same id that was cancelled. None when there is no record, or one that is final.
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

fn is_missing(error: &jetstream::stream::RawMessageError) -> bool {
    match error.kind() {
        RawMessageErrorKind::NoMessageFound => true,
        RawMessageErrorKind::JetStream(server) => server.code() == 404,
        _ => false,
    }
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
