//! The stream `DEAD`.

use async_nats::jetstream::message::StreamMessage;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use precis_runtime::nats::is_missing;
use precis_schemas::error_code::Refusal;
use precis_schemas::rest_operations::StoredDeadLetter;
use precis_schemas::{Lane, Token, time};

use super::{NatsQueue, request_failed};
use crate::queue::DeadLetterPage;

/// Messages to read concurrently.
const MAX_IN_FLIGHT: usize = 32;

fn stored_at(message: &StreamMessage) -> Timestamp {
    let time = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
    time::to_millis(time.unwrap_or(Timestamp::UNIX_EPOCH))
}

impl NatsQueue {
    pub(super) async fn read_dead_letters(
        &self,
        before: Option<u64>,
        sequences: u64,
    ) -> Result<DeadLetterPage, Refusal> {
        // `info` updates the stream's cache, so it needs its own copy.
        let mut stream = self.dead_stream.clone();
        let state = match stream.info().await {
            Ok(info) => info.state.clone(),
            Err(error) => return Err(request_failed("reading the stream DEAD", &error)),
        };
        let end = before.unwrap_or(u64::MAX).min(state.last_sequence + 1);
        // The first sequence of a stream that never had a message is 0, which no message has.
        let first = state.first_sequence.max(1);
        let begin = end.saturating_sub(sequences).max(first);
        let letters = futures::stream::iter((begin..end).rev())
            .map(|sequence| self.read_dead_letter(sequence))
            .buffered(MAX_IN_FLIGHT)
            .try_filter_map(|letter| std::future::ready(Ok(letter)))
            .try_collect()
            .await?;
        Ok(DeadLetterPage {
            letters,
            next: (begin > first && begin < end).then_some(begin),
        })
    }

    pub(super) async fn read_dead_letter(&self, sequence: u64) -> Result<Option<StoredDeadLetter>, Refusal> {
        match self.dead_stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(StoredDeadLetter::read(
                sequence,
                message.subject.as_str(),
                &message.payload,
                stored_at(&message),
            ))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(request_failed("reading a dead letter", &error)),
        }
    }

    pub(super) async fn remove_dead_letter(&self, sequence: u64) -> Result<(), Refusal> {
        match self.dead_stream.delete_message(sequence).await {
            Ok(_) => Ok(()),
            // Another request may have deleted it.
            Err(error) => match self.read_dead_letter(sequence).await? {
                None => Ok(()),
                Some(_) => Err(request_failed("deleting a dead letter", &error)),
            },
        }
    }

    pub(super) async fn read_oldest_job(
        &self,
        model: &Token,
        lane: Lane,
    ) -> Result<Option<Timestamp>, Refusal> {
        let filter = format!("jobs.*.{model}.{lane}.>");
        match self.jobs_stream.get_first_raw_message_by_subject(filter, 1).await {
            Ok(message) => Ok(Some(stored_at(&message))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(request_failed("reading the oldest job", &error)),
        }
    }
}
