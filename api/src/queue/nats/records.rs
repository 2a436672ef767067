//! Records of calls in the stream `CALLS`: one message per name, written with compare-and-set.

use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use precis_runtime::nats::{PublishFailure, classify};
use precis_schemas::error_code::Refusal;
use precis_schemas::{Token, subject};

use super::connectivity::unavailable;
use super::{CreateOutcome, NatsQueue, Record, request_failed};

/// Most attempts to write a record while another write of it is in process, and the delay between them.
const WRITE_ATTEMPTS: u32 = 10;
const WRITE_RETRY_DELAY: Duration = Duration::from_millis(50);

impl NatsQueue {
    pub(super) async fn create_call(&self, name: &Token, body: Bytes) -> Result<CreateOutcome, Refusal> {
        // An existing record may expire before it is read. That cannot happen twice in a row.
        for _ in 0..2 {
            if let Some(revision) = self.write_call(name, 0, body.clone()).await? {
                return Ok(CreateOutcome::Created(revision));
            }
            if let Some(record) = self.read_call(name).await? {
                return Ok(CreateOutcome::Exists(record));
            }
        }
        Err(unavailable())
    }

    /// Replaces the record if it is at `revision`; 0 means that there is none. Returns the new revision, or `None` if
    /// the record is at another one.
    pub(super) async fn write_call(
        &self,
        name: &Token,
        revision: u64,
        body: Bytes,
    ) -> Result<Option<u64>, Refusal> {
        let jetstream = &self.connection.jetstream;
        let mut attempt = 1;
        loop {
            let publish = PublishMessage::build()
                .payload(body.clone())
                .expected_last_subject_sequence(revision);
            let sent = match jetstream.send_publish(subject::call_of(name), publish).await {
                Ok(ack) => ack.await,
                Err(error) => Err(error),
            };
            let error = match sent {
                Ok(ack) => return Ok(Some(ack.sequence)),
                Err(error) => error,
            };
            match classify(&error) {
                PublishFailure::Conflict => return Ok(None),
                // Another request with the same key is writing the record.
                PublishFailure::InProcess if attempt < WRITE_ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(WRITE_RETRY_DELAY).await;
                }
                _ => return Err(request_failed("writing a call record", &error)),
            }
        }
    }

    /// Reads from the leader, so that a record which made a create fail is found.
    pub(super) async fn read_call(&self, name: &Token) -> Result<Option<Record>, Refusal> {
        let subject = subject::call_of(name);
        let message = match self.calls_stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) => return Err(request_failed("reading a call record", &error)),
        };
        let stored_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
        Ok(Some(Record {
            body: message.payload,
            revision: message.sequence,
            stored_at: stored_at.unwrap_or(jiff::Timestamp::MAX),
        }))
    }

    pub(super) async fn delete_call(&self, revision: u64) -> Result<(), Refusal> {
        match self.calls_stream.delete_message(revision).await {
            Ok(_) => Ok(()),
            Err(error) => Err(request_failed("deleting a call record", &error)),
        }
    }
}
