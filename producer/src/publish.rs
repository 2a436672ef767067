//! Publishes jobs. A job is accepted once the stream acknowledges it.

use std::time::Duration;

use async_nats::jetstream::{self, context::PublishError as NatsPublishError, message::PublishMessage};
use async_nats::{HeaderMap, header};
use bytes::Bytes;
use precis_runtime::backoff::Backoff;
use precis_runtime::json;
use precis_runtime::nats::{PublishFailure, classify};
use precis_runtime::spans::{self, Span, SpanKind, SpanStart};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::reference::LateReference;
use precis_schemas::topology::JOBS;
use precis_schemas::{Job, JobHandle, JobId, JobSubject, subject};

/// Maximum number of attempts while the server is unreachable. The message id makes repeats harmless.
const ATTEMPTS: u32 = 3;
/// Delays between attempts.
const MIN_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_millis(500);

/// Sets the attributes of a publish's span, by OpenTelemetry's conventions.
fn describe(span: &mut Span, submission: &Submission, sequence: u64) {
    if !spans::enabled() {
        return;
    }
    span.set("messaging.system", "nats");
    span.set("messaging.operation.type", "send");
    span.set("messaging.destination.name", JOBS);
    span.set("messaging.message.id", submission.job.id.to_string());
    span.set("precis.job.sequence", sequence as i64);
    span.set("precis.model", submission.subject.model.to_string());
    span.set("precis.lane", submission.subject.lane.as_str());
}

/// Estimates the size of a job as JSON: its texts, some escaped characters, and the other fields.
fn size_hint(job: &Job) -> usize {
    let texts = job.text.len() + job.reference.as_ref().map_or(0, String::len);
    texts + texts / 16 + 512
}

/// A job together with its subject and trace.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Subject to publish it on.
    pub subject: JobSubject,
    /// The job.
    pub job: Job,
    /// Trace of its request.
    pub trace: TraceContext,
}

/// A job that the stream has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Id and sequence.
    pub handle: JobHandle,
    /// Whether the stream already had this job: the same id was published within the stream's duplicate window.
    pub duplicate: bool,
}

/// A failure to publish.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The queue is full.
    #[error("the queue is full")]
    Full(#[source] NatsPublishError),
    /// The tenant has as many jobs in the lane as one tenant may have.
    #[error("the tenant has as many queued jobs in this lane as one tenant may have (queue.tenant_share)")]
    TenantFull(#[source] NatsPublishError),
    /// The server or the stream is unreachable, or an attempt ended without an answer. The job may be in the queue.
    #[error("the queue can't be reached: {0}")]
    Unavailable(#[source] NatsPublishError),
    /// The message exceeds the server's maximum size.
    #[error("the job exceeds the maximum message size of the queue")]
    TooLarge(#[source] NatsPublishError),
    /// JSON can't represent the job.
    #[error("the job can't be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// Anything else.
    #[error("publishing: {0}")]
    Other(#[source] NatsPublishError),
}

impl From<&PublishError> for Refusal {
    fn from(error: &PublishError) -> Self {
        let code = match error {
            PublishError::Full(_) => ErrorCode::QueueFull,
            PublishError::TenantFull(_) => ErrorCode::QuotaExceeded,
            PublishError::Unavailable(_) => ErrorCode::QueueUnavailable,
            PublishError::TooLarge(_) => ErrorCode::BodyTooLarge,
            PublishError::Encode(_) | PublishError::Other(_) => ErrorCode::Internal,
        };
        Refusal::new(code, error.to_string())
    }
}

/// Publishes jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Producer {
    jetstream: jetstream::Context,
}

impl Producer {
    /// Creates a producer.
    pub fn new(jetstream: jetstream::Context) -> Self {
        Self { jetstream }
    }

    /// Publishes a job and waits for the stream's acknowledgement.
    ///
    /// # Errors
    /// If the stream rejects the job or is unreachable. A job whose acknowledgement was lost may still run; publishing
    /// the same id again is safe.
    pub async fn publish(&self, submission: &Submission) -> Result<Accepted, PublishError> {
        self.publish_as(submission, submission.job.id.as_str()).await
    }

    /// Publishes a job under another message id than its own. For a job that was published before and removed from the
    /// queue: the stream would otherwise drop it as a duplicate.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub async fn publish_as(
        &self,
        submission: &Submission,
        message_id: &str,
    ) -> Result<Accepted, PublishError> {
        let body = json::to_bytes(&submission.job, size_hint(&submission.job))?;
        let subject = submission.subject.to_string();
        let mut span = Span::begin(SpanStart::now(
            "publish jobs",
            SpanKind::Producer,
            &submission.trace,
        ));
        let mut headers = HeaderMap::new();
        span.context().write_to(&mut headers);
        headers.insert(header::NATS_MESSAGE_ID, message_id);
        let ack = self.publish_until_stored(&subject, headers, body).await?;
        describe(&mut span, submission, ack.sequence);
        Ok(Accepted {
            handle: JobHandle {
                id: submission.job.id.clone(),
                sequence: Some(ack.sequence),
            },
            duplicate: ack.duplicate,
        })
    }

    /// Publishes a late reference and waits for the stream's acknowledgement.
    ///
    /// # Errors
    /// If the stream rejects it or is unreachable.
    pub async fn publish_reference(
        &self,
        reference: &LateReference,
        trace: &TraceContext,
    ) -> Result<(), PublishError> {
        let body = Bytes::from(serde_json::to_vec(reference)?);
        let mut headers = HeaderMap::new();
        trace.write_to(&mut headers);
        // Deduplicates only these attempts: a client may send the same text again after another one.
        headers.insert(header::NATS_MESSAGE_ID, JobId::generate().as_str());
        let subject = subject::reference_of(&reference.id);
        self.publish_until_stored(&subject, headers, body).await?;
        Ok(())
    }

    async fn publish_until_stored(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<jetstream::publish::PublishAck, PublishError> {
        let mut attempt = 1;
        let mut backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
        // Whether an earlier attempt may have stored the message. No later error then means that it is not stored.
        let mut is_uncertain = false;
        loop {
            match self.publish_once(subject, headers.clone(), body.clone()).await {
                Ok(ack) => return Ok(ack),
                Err(error) => match classify(&error) {
                    failure if failure.is_transient() && attempt < ATTEMPTS => {
                        is_uncertain = true;
                        attempt += 1;
                        backoff.sleep().await;
                    }
                    _ if is_uncertain => return Err(PublishError::Unavailable(error)),
                    PublishFailure::Unavailable | PublishFailure::InProcess => {
                        return Err(PublishError::Unavailable(error));
                    }
                    PublishFailure::Full => return Err(PublishError::Full(error)),
                    PublishFailure::SubjectFull => return Err(PublishError::TenantFull(error)),
                    PublishFailure::TooLarge => return Err(PublishError::TooLarge(error)),
                    PublishFailure::Conflict | PublishFailure::Other => {
                        return Err(PublishError::Other(error));
                    }
                },
            }
        }
    }

    async fn publish_once(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<jetstream::publish::PublishAck, NatsPublishError> {
        let message = PublishMessage::build().headers(headers).payload(body);
        self.jetstream
            .send_publish(subject.to_owned(), message)
            .await?
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use precis_runtime::fake_nats::FakeNats;

    use super::*;

    /// An answer of the stream.
    #[derive(Debug, Clone, Copy)]
    enum Answer {
        /// None at all.
        Nothing,
        /// An error with this code.
        Error(u32),
        /// The acknowledgement of a message that is stored already.
        Duplicate,
    }

    /// Publishes a job to a stream that gives these answers, the last one again and again.
    async fn published(answers: &'static [Answer]) -> Result<Accepted, ErrorCode> {
        let count = AtomicUsize::new(0);
        let server = FakeNats::start("2.15.1", move |_| {
            let attempt = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            let answer = match answers[attempt] {
                Answer::Nothing => return None,
                Answer::Error(code) => format!(r#"{{"error":{{"code":400,"err_code":{code}}}}}"#),
                Answer::Duplicate => r#"{"stream":"JOBS","seq":7,"duplicate":true}"#.to_owned(),
            };
            Some(answer.into_bytes())
        })
        .await;
        let mut jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        jetstream.set_timeout(Duration::from_secs(1));
        let submission = Submission {
            subject: "jobs.v1.default.normal.summarize.public".parse().unwrap(),
            job: Job::from_json(br#"{"id":"a","text":"x"}"#).unwrap(),
            trace: TraceContext::begin(),
        };
        let published = Producer::new(jetstream).publish(&submission).await;
        published.map_err(|error| Refusal::from(&error).code)
    }

    #[tokio::test]
    async fn an_error_after_an_unanswered_attempt_does_not_count_as_a_refusal() {
        for answers in [
            // The first attempt is still in process.
            &[Answer::Nothing, Answer::Error(10_158)][..],
            &[Answer::Nothing, Answer::Error(10_164)],
            // The queue became full meanwhile, perhaps with this job.
            &[Answer::Nothing, Answer::Error(10_077)],
            &[Answer::Nothing, Answer::Error(10_060)],
            &[Answer::Nothing],
        ] {
            let answers: &'static [Answer] = answers;
            assert_eq!(
                published(answers).await,
                Err(ErrorCode::QueueUnavailable),
                "{answers:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_answered_attempt_is_refused_for_its_reason() {
        assert_eq!(
            published(&[Answer::Error(10_077)]).await,
            Err(ErrorCode::QueueFull)
        );
        assert_eq!(
            published(&[Answer::Error(10_060)]).await,
            Err(ErrorCode::Internal)
        );
        let accepted = published(&[Answer::Nothing, Answer::Error(10_158), Answer::Duplicate]).await;
        assert_eq!(accepted.unwrap().handle.to_string(), "a.7");
    }
}
