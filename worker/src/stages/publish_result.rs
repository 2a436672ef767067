//! Stage 7: publish the result so that the first one wins.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::PublishMessage};
use precis_runtime::nats::{PublishFailure, classify};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::dead::DeadLetter;
use precis_schemas::{JobResult, Token, headers, subject};
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// First pause before a publish is tried again; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The stream has it.
    Stored,
    /// Another worker's result was there first; this one is dropped.
    SomebodyWasFirst,
    /// The message is larger than the server takes.
    TooLarge,
    /// The stream could not be reached before the worker had to go.
    GivenUp,
}

/// Publishes results and dead letters.
#[derive(Clone)]
pub struct Publisher {
    jetstream: jetstream::Context,
    hurry: CancellationToken,
}

impl Publisher {
    /// A publisher that gives up when `hurry` is cancelled, and not before.
    pub fn new(jetstream: jetstream::Context, hurry: CancellationToken) -> Self {
        Self { jetstream, hurry }
    }

    /// Publishes a result. The job is settled unless this says `GivenUp`.
    pub async fn result(&self, result: &JobResult, trace: Option<&TraceContext>) -> Published {
        let mut published = self.result_as_it_is(result, trace).await;
        if published == Published::TooLarge {
            // The job came through, so its answer must: without the text, which the client has.
            tracing::warn!(job = %result.id, "the result is too large with its text; publishing it without");
            let without_text = JobResult {
                text: String::new(),
                ..result.clone()
            };
            published = self.result_as_it_is(&without_text, trace).await;
        }
        match published {
            Published::Stored => metrics::answered(result),
            Published::SomebodyWasFirst => metrics::late(),
            Published::TooLarge | Published::GivenUp => {}
        }
        published
    }

    async fn result_as_it_is(&self, result: &JobResult, trace: Option<&TraceContext>) -> Published {
        match serde_json::to_vec(result) {
            Ok(body) => {
                self.until_stored(&subject::result_of(&result.id), body, trace, true, None)
                    .await
            }
            Err(error) => {
                tracing::error!(job = %result.id, %error, "a result can't be written as JSON");
                Published::GivenUp
            }
        }
    }

    /// Publishes a dead letter; the same job's twice is one.
    pub async fn dead_letter(&self, letter: &DeadLetter) -> Published {
        let kind = letter.subject.split('.').nth(4).unwrap_or("unknown");
        let subject = subject::dead_of(&Token::sanitized(kind));
        match serde_json::to_vec(letter) {
            Ok(body) => {
                let id = format!("dead-{}", letter.job_sequence);
                self.until_stored(&subject, body, None, false, Some(&id)).await
            }
            Err(error) => {
                tracing::error!(%error, "a dead letter can't be written as JSON");
                Published::GivenUp
            }
        }
    }

    async fn until_stored(
        &self,
        subject: &str,
        body: Vec<u8>,
        trace: Option<&TraceContext>,
        first_wins: bool,
        message_id: Option<&str>,
    ) -> Published {
        let body = bytes::Bytes::from(body);
        let mut headers = HeaderMap::new();
        if let Some(trace) = trace {
            trace.write_to(&mut headers);
        }
        if first_wins {
            headers.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        }
        if let Some(id) = message_id {
            headers.insert(headers::MESSAGE_ID, id);
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let message = PublishMessage::build()
                .headers(headers.clone())
                .payload(body.clone());
            let sent = match self.jetstream.send_publish(subject.to_owned(), message).await {
                Ok(ack) => ack.await.map(|_| ()),
                Err(error) => Err(error),
            };
            let error = match sent {
                Ok(()) => return Published::Stored,
                Err(error) => error,
            };
            match classify(&error) {
                PublishFailure::NotFirst => return Published::SomebodyWasFirst,
                PublishFailure::TooLarge => return Published::TooLarge,
                PublishFailure::Full | PublishFailure::Unavailable | PublishFailure::Other => {}
            }
            tracing::warn!(subject, %error, "publishing failed; trying again");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.hurry.cancelled() => return Published::GivenUp,
            }
        }
    }
}
