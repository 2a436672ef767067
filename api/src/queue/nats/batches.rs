//! Batch records in the stream `BATCHES`, and how the jobs of a batch ended.

use async_nats::jetstream::stream::DirectGetErrorKind;
use bytes::Bytes;
use precis_runtime::nats::is_missing;
use precis_schemas::error_code::Refusal;
use precis_schemas::{JobId, subject};

use super::{JobEnd, NatsQueue, ReadConsistency, request_failed, unreadable_result};

impl NatsQueue {
    pub(super) async fn read_job_end(
        &self,
        id: &JobId,
        consistency: ReadConsistency,
    ) -> Result<Option<JobEnd>, Refusal> {
        let subject = subject::result_of(id);
        let stream = &self.results_stream;
        let found = match consistency {
            ReadConsistency::Any => match stream.direct_get_last_for_subject(subject).await {
                Ok(message) => Some(message),
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => None,
                Err(error) => return Err(request_failed("reading a result", &error)),
            },
            ReadConsistency::Leader => match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => Some(message),
                Err(error) if is_missing(&error) => None,
                Err(error) => return Err(request_failed("reading a result", &error)),
            },
        };
        found
            .map(|message| serde_json::from_slice(&message.payload))
            .transpose()
            .map_err(|error| unreadable_result(id, &error))
    }

    /// Reads from the leader: a replica may lack a record that was written a moment ago.
    pub(super) async fn read_batch_record(&self, subject: &str) -> Result<Option<Bytes>, Refusal> {
        match self.batches_stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(request_failed("reading a batch record", &error)),
        }
    }

    pub(super) async fn write_batch_record(&self, subject: String, body: Bytes) -> Result<(), Refusal> {
        let sent = match self.connection.jetstream.publish(subject, body).await {
            Ok(ack) => ack.await.map(|_| ()),
            Err(error) => Err(error),
        };
        sent.map_err(|error| request_failed("writing a batch record", &error))
    }
}
