//! What is kept of batches, in the stream `BATCHES`, and the ends of their jobs.

use async_nats::jetstream::stream::DirectGetErrorKind;
use bytes::Bytes;
use precis_schemas::error_code::Refusal;
use precis_schemas::{JobId, Outcome, subject};
use serde::Deserialize;

use super::termination::is_missing;
use super::{NatsQueue, ReadConsistency, trouble, unreadable};

/// How and when a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct JobEnd {
    /// How.
    pub(crate) outcome: Outcome,
    /// When.
    pub(crate) finished_at: jiff::Timestamp,
}

impl NatsQueue {
    pub(super) async fn read_end(
        &self,
        id: &JobId,
        copy: ReadConsistency,
    ) -> Result<Option<JobEnd>, Refusal> {
        let subject = subject::result_of(id);
        let found = match copy {
            ReadConsistency::Any => match self.results_stream.direct_get_last_for_subject(subject).await {
                Ok(message) => Some(message),
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => None,
                Err(error) => return Err(trouble("reading a result", &error)),
            },
            ReadConsistency::Leader => match self
                .results_stream
                .get_last_raw_message_by_subject(&subject)
                .await
            {
                Ok(message) => Some(message),
                Err(error) if is_missing(&error) => None,
                Err(error) => return Err(trouble("reading a result", &error)),
            },
        };
        found
            .map(|message| serde_json::from_slice(&message.payload))
            .transpose()
            .map_err(|error| unreadable(id, &error))
    }

    /// From the leader: a copy may not have what was written a moment ago.
    pub(super) async fn read_batch_record(&self, subject: &str) -> Result<Option<Bytes>, Refusal> {
        match self.batches_stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(trouble("reading a batch", &error)),
        }
    }

    pub(super) async fn write_batch_record(&self, subject: String, body: Bytes) -> Result<(), Refusal> {
        let sent = match self.connection.jetstream.publish(subject, body).await {
            Ok(ack) => ack.await.map(|_| ()),
            Err(error) => Err(error),
        };
        sent.map_err(|error| trouble("writing a batch", &error))
    }
}
