//! What is remembered of requests, in the stream `CALLS`: one message for each name, compared and set.

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use precis_runtime::nats::{PublishFailure, classify};
use precis_schemas::Token;
use precis_schemas::error_code::Refusal;
use precis_schemas::subject;

use super::{NatsQueue, trouble, unavailable};

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// What was stored.
    pub(crate) body: Bytes,
    /// Its place in the stream.
    pub(crate) revision: u64,
    /// When it was stored.
    pub(crate) stored_at: jiff::Timestamp,
}

/// What became of a record that was to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    /// It is stored at this revision.
    New(u64),
    /// There is one.
    Exists(Record),
}

impl NatsQueue {
    pub(super) async fn create(&self, name: &Token, body: Bytes) -> Result<Created, Refusal> {
        // One that is there may be gone when it is read: its time was up. Twice in a row is not believed.
        for _ in 0..2 {
            if let Some(revision) = self.store(name, 0, body.clone()).await? {
                return Ok(Created::New(revision));
            }
            if let Some(record) = self.read_record(name).await? {
                return Ok(Created::Exists(record));
            }
        }
        Err(unavailable())
    }

    /// Stores `body` in the place of what stands at `revision`, 0 for nothing; none when something else stands there.
    pub(super) async fn store(
        &self,
        name: &Token,
        revision: u64,
        body: Bytes,
    ) -> Result<Option<u64>, Refusal> {
        let publish = PublishMessage::build()
            .payload(body)
            .expected_last_subject_sequence(revision);
        let sent = match self
            .connection
            .jetstream
            .send_publish(subject::call_of(name), publish)
            .await
        {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(error) if classify(&error) == PublishFailure::NotFirst => Ok(None),
            Err(error) => Err(trouble("remembering a request", &error)),
        }
    }

    /// From the leader: who was told that there is a record finds it.
    pub(super) async fn read_record(&self, name: &Token) -> Result<Option<Record>, Refusal> {
        let subject = subject::call_of(name);
        let message = match self.calls_stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) => return Err(trouble("looking up a request", &error)),
        };
        let stored_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
        Ok(Some(Record {
            body: message.payload,
            revision: message.sequence,
            stored_at: stored_at.unwrap_or(jiff::Timestamp::MAX),
        }))
    }

    pub(super) async fn remove(&self, revision: u64) -> Result<(), Refusal> {
        match self.calls_stream.delete_message(revision).await {
            Ok(_) => Ok(()),
            Err(error) => Err(trouble("forgetting a request", &error)),
        }
    }
}
