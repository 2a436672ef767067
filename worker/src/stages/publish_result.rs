//! Stage 9: publishes the result, so that the first result of a job wins. Its text is stored before.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::PublishMessage};
use bytes::Bytes;
use precis_runtime::backoff::Backoff;
use precis_runtime::json;
use precis_runtime::nats::{PublishFailure, classify};
use precis_runtime::results::Results;
use precis_runtime::texts::TextMessage;
use precis_runtime::trace_context::TraceContext;
use precis_runtime::webhooks;
use precis_schemas::dead::DeadLetter;
use precis_schemas::termination::dead_letter_task;
use precis_schemas::{JobResult, headers, subject};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Delays between the retries of a publish.
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Retries after an error that is neither a full stream nor a lost connection.
const MAX_OTHER_ERRORS: u32 = 4;
/// Bytes of a result's JSON besides its texts.
const JSON_OVERHEAD_BYTES: usize = 2_048;

/// The message was not stored: the worker is stopping, or the server rejects the message. The job is delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message was not stored")]
pub struct NotStored;

/// How an attempt to store a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishOutcome {
    /// The stream stored the message.
    Stored,
    /// The subject has another last message than expected.
    AlreadyAnswered,
    /// The message exceeds the server's size limit.
    TooLarge,
    /// Retrying was given up.
    NotStored,
}

/// Publishes results and dead letters. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    jetstream: jetstream::Context,
    results: Results,
    drain_deadline: CancellationToken,
}

impl Publisher {
    /// Creates a publisher that retries until `drain_deadline` is cancelled.
    pub fn new(jetstream: jetstream::Context, results: Results, drain_deadline: CancellationToken) -> Self {
        Self {
            jetstream,
            results,
            drain_deadline,
        }
    }

    /// Publishes a result, unless the job already has a final one.
    ///
    /// # Errors
    /// When neither this result nor an earlier one is stored.
    pub async fn result(&self, result: &JobResult, trace: Option<&TraceContext>) -> Result<(), NotStored> {
        // Announce first: a crash in between then repeats the announcement instead of losing it.
        if let Err(error) = webhooks::announce_end(&self.jetstream, result).await {
            tracing::warn!(job = %result.id, %error, "webhook not announced; the job is delivered again");
            return Err(NotStored);
        }
        let mut record = result.clone();
        if let Some(TextMessage { subject, body }) = TextMessage::of(result) {
            match self.publish_with_retries(&subject, body, HeaderMap::new()).await {
                PublishOutcome::Stored | PublishOutcome::AlreadyAnswered => record.detach_text(),
                // It stays in the record, which is published without it if that is too large, too.
                PublishOutcome::TooLarge => {}
                PublishOutcome::NotStored => return Err(NotStored),
            }
        }
        let texts = record.text.len() + record.reference.as_ref().map_or(0, String::len);
        let mut outcome = self.publish_once(result, encode(&record, texts), trace).await;
        if outcome == PublishOutcome::TooLarge {
            tracing::warn!(job = %result.id, "result exceeds the size limit; publishing it without its texts");
            record.remove_publisher_fields();
            outcome = self.publish_once(result, encode(&record, 0), trace).await;
        }
        match outcome {
            PublishOutcome::Stored => metrics::job_answered(result),
            PublishOutcome::AlreadyAnswered => metrics::late_result(),
            PublishOutcome::TooLarge | PublishOutcome::NotStored => return Err(NotStored),
        }
        Ok(())
    }

    /// Publishes `body`, the JSON of `result`, unless the job already has a final result.
    async fn publish_once(
        &self,
        result: &JobResult,
        body: Bytes,
        trace: Option<&TraceContext>,
    ) -> PublishOutcome {
        let subject = subject::result_of(&result.id);
        let outcome = self
            .publish_with_retries(&subject, body.clone(), result_headers(0, trace))
            .await;
        if outcome != PublishOutcome::AlreadyAnswered {
            return outcome;
        }
        match self
            .results
            .superseded_sequence(&result.id, result.job_sequence)
            .await
        {
            Ok(Some(earlier)) => {
                self.publish_with_retries(&subject, body, result_headers(earlier, trace))
                    .await
            }
            Ok(None) => PublishOutcome::AlreadyAnswered,
            Err(error) => {
                tracing::warn!(job = %result.id, %error, "earlier result can't be read; the job is delivered again");
                PublishOutcome::NotStored
            }
        }
    }

    /// Publishes a dead letter, at most once per job.
    ///
    /// # Errors
    /// When the letter is not stored.
    pub async fn dead_letter(&self, mut letter: DeadLetter) -> Result<(), NotStored> {
        let subject = subject::dead_of(&dead_letter_task(&letter.subject));
        let mut headers = HeaderMap::new();
        headers.insert(headers::MESSAGE_ID, format!("dead-{}", letter.job_sequence));
        // A header holds visible ASCII only. The letter itself has the subject in any case.
        if letter.subject.bytes().all(|byte| byte.is_ascii_graphic()) {
            headers.insert(headers::ORIGINAL_SUBJECT, letter.subject.as_str());
        }
        headers.insert(headers::DEAD_REASON, letter.reason.code.as_str());
        let mut outcome = self
            .publish_with_retries(&subject, encode(&letter, 0), headers.clone())
            .await;
        if outcome == PublishOutcome::TooLarge {
            letter.strip_body();
            outcome = self
                .publish_with_retries(&subject, encode(&letter, 0), headers)
                .await;
        }
        match outcome {
            PublishOutcome::Stored | PublishOutcome::AlreadyAnswered => Ok(()),
            PublishOutcome::TooLarge | PublishOutcome::NotStored => Err(NotStored),
        }
    }

    async fn publish_with_retries(&self, subject: &str, body: Bytes, headers: HeaderMap) -> PublishOutcome {
        let mut backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
        let mut other_errors = 0;
        loop {
            let message = PublishMessage::build()
                .headers(headers.clone())
                .payload(body.clone());
            let published = match self.jetstream.send_publish(subject.to_owned(), message).await {
                Ok(ack) => ack.await.map(|_| ()),
                Err(error) => Err(error),
            };
            let error = match published {
                Ok(()) => return PublishOutcome::Stored,
                Err(error) => error,
            };
            match classify(&error) {
                PublishFailure::Conflict => return PublishOutcome::AlreadyAnswered,
                PublishFailure::TooLarge => return PublishOutcome::TooLarge,
                PublishFailure::Full
                | PublishFailure::SubjectFull
                | PublishFailure::Unavailable
                | PublishFailure::InProcess => {}
                // A permanent error must not block the worker.
                PublishFailure::Other if other_errors == MAX_OTHER_ERRORS => {
                    return PublishOutcome::NotStored;
                }
                PublishFailure::Other => other_errors += 1,
            }
            tracing::warn!(subject, %error, "publishing failed; retrying");
            if !backoff.wait(&self.drain_deadline).await {
                return PublishOutcome::NotStored;
            }
        }
    }
}

/// Returns headers with which the server rejects the message unless `last_sequence` is the subject's last message. 0
/// stands for a subject without messages.
fn result_headers(last_sequence: u64, trace: Option<&TraceContext>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, last_sequence.to_string());
    if let Some(trace) = trace {
        trace.write_to(&mut headers);
    }
    headers
}

/// Encodes a message as JSON. Its types always have a JSON form.
fn encode(message: &impl Serialize, text_bytes: usize) -> Bytes {
    json::to_bytes(message, text_bytes + text_bytes / 16 + JSON_OVERHEAD_BYTES).unwrap_or_default()
}
