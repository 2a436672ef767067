//! Stage 7: publish the result so that the first one wins.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::PublishMessage};
use bytes::Bytes;
use precis_runtime::json;
use precis_runtime::nats::{PublishFailure, classify};
use precis_runtime::results::Results;
use precis_runtime::trace_context::TraceContext;
use precis_runtime::webhooks;
use precis_schemas::dead::DeadLetter;
use precis_schemas::{JobResult, Token, headers, subject};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// First pause before a publish is tried again; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Times that an unexplained refusal is tried again.
const MOST_REFUSALS: u32 = 4;

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The stream has it.
    Stored,
    /// Another worker's result was there first; this one is dropped.
    SomebodyWasFirst,
    /// The message is larger than the server takes.
    TooLarge,
    /// It could not be stored: the worker has to go, or the server refuses it.
    GivenUp,
}

/// Publishes results and dead letters.
#[derive(Clone)]
pub struct Publisher {
    jetstream: jetstream::Context,
    results: Results,
    hurry: CancellationToken,
}

impl Publisher {
    /// A publisher that gives up when `hurry` is cancelled, and not before.
    pub fn new(jetstream: jetstream::Context, results: Results, hurry: CancellationToken) -> Self {
        Self {
            jetstream,
            results,
            hurry,
        }
    }

    /// Publishes a result. The job is settled unless this says `GivenUp`.
    pub async fn result(&self, result: &JobResult, trace: Option<&TraceContext>) -> Published {
        // Before the result: then none is missed, wherever the worker is cut off.
        if let Err(error) = webhooks::announce_end(&self.jetstream, result).await {
            tracing::warn!(job = %result.id, %error, "the webhook of a job can't be announced");
            return Published::GivenUp;
        }
        let texts = result.text.len() + result.reference.as_ref().map_or(0, String::len);
        let mut published = self.first_of_its_id(result, encode(result, texts), trace).await;
        if published == Published::TooLarge {
            // The job came through, so its answer must: without what the client has anyway.
            tracing::warn!(job = %result.id, "the result is too large with its texts; publishing it without");
            let small = JobResult {
                text: String::new(),
                reference: None,
                metadata: Default::default(),
                ..result.clone()
            };
            published = self.first_of_its_id(result, encode(&small, 0), trace).await;
        }
        match published {
            Published::Stored => metrics::answered(result),
            Published::SomebodyWasFirst => metrics::late(),
            Published::TooLarge | Published::GivenUp => return Published::GivenUp,
        }
        published
    }

    /// Publishes `body`, the record of `result`, unless its id has one that is final.
    async fn first_of_its_id(
        &self,
        result: &JobResult,
        body: Bytes,
        trace: Option<&TraceContext>,
    ) -> Published {
        let subject = subject::result_of(&result.id);
        let published = self
            .until_stored(&subject, body.clone(), instead_of(0, trace))
            .await;
        if published != Published::SomebodyWasFirst {
            return published;
        }
        match self.results.giving_way(&result.id, result.job_sequence).await {
            Ok(Some(earlier)) => {
                self.until_stored(&subject, body, instead_of(earlier, trace))
                    .await
            }
            Ok(None) => Published::SomebodyWasFirst,
            Err(error) => {
                tracing::warn!(job = %result.id, %error, "the result that came first can't be read");
                Published::GivenUp
            }
        }
    }

    /// Publishes a dead letter; the same job's twice is one.
    pub async fn dead_letter(&self, mut letter: DeadLetter) -> Published {
        let kind = letter.subject.split('.').nth(4).unwrap_or("unknown");
        let subject = subject::dead_of(&Token::sanitized(kind));
        let mut headers = HeaderMap::new();
        headers.insert(headers::MESSAGE_ID, format!("dead-{}", letter.job_sequence));
        // A header is one line of visible characters; a subject that is not is in the letter all the same.
        if letter.subject.bytes().all(|byte| byte.is_ascii_graphic()) {
            headers.insert(headers::ORIGINAL_SUBJECT, letter.subject.as_str());
        }
        headers.insert(headers::DEAD_REASON, letter.reason.code.as_str());
        let published = self
            .until_stored(&subject, encode(&letter, 0), headers.clone())
            .await;
        if published != Published::TooLarge {
            return published;
        }
        letter.strip_body();
        match self.until_stored(&subject, encode(&letter, 0), headers).await {
            Published::TooLarge => Published::GivenUp,
            published => published,
        }
    }

    async fn until_stored(&self, subject: &str, body: Bytes, headers: HeaderMap) -> Published {
        let mut pause = FIRST_PAUSE;
        let mut refusals = 0;
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
                PublishFailure::Full | PublishFailure::Unavailable => {}
                // A refusal that does not pass must not hold up everything else.
                PublishFailure::Other if refusals == MOST_REFUSALS => return Published::GivenUp,
                PublishFailure::Other => refusals += 1,
            }
            tracing::warn!(subject, %error, "publishing failed; trying again");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.hurry.cancelled() => return Published::GivenUp,
            }
        }
    }
}

/// Headers with which a publish is refused unless the subject's last message is the one at `sequence`; 0: unless it has
/// none.
fn instead_of(sequence: u64, trace: Option<&TraceContext>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
    if let Some(trace) = trace {
        trace.write_to(&mut headers);
    }
    headers
}

/// Bytes of a result besides its texts.
const BESIDES_TEXTS: usize = 2_048;

/// A struct of texts, numbers and times always has a JSON form.
fn encode(message: &impl Serialize, texts: usize) -> Bytes {
    json::to_bytes(message, texts + texts / 16 + BESIDES_TEXTS).unwrap_or_default()
}
