//! Publishing: accepted means that the stream has acknowledged the message.

use std::time::Duration;

use async_nats::jetstream::{self, context::PublishError as NatsPublishError, message::PublishMessage};
use async_nats::{HeaderMap, header};
use bytes::Bytes;
use precis_runtime::json;
use precis_runtime::nats::{PublishFailure, classify};
use precis_runtime::spans::{self, Span, SpanKind, SpanStart};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::reference::LateReference;
use precis_schemas::topology::JOBS;
use precis_schemas::{Job, JobHandle, JobId, JobSubject, subject};

/// Publishes of a message before a server without an answer is given up. The message id makes a
/// repeated publish harmless.
const ATTEMPTS: u32 = 3;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// What the span of a publish says, by OpenTelemetry's names.
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

/// Bytes of a job as JSON: its texts, some of whose characters are written as two, and what goes for every job.
fn about(job: &Job) -> usize {
    let texts = job.text.len() + job.reference.as_ref().map_or(0, String::len);
    texts + texts / 16 + 512
}

/// A job on its way to the queue.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Where it goes.
    pub subject: JobSubject,
    /// What it is.
    pub job: Job,
    /// The request that it belongs to.
    pub trace: TraceContext,
}

/// A job that the stream has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Id and sequence.
    pub handle: JobHandle,
    /// The same id was published before, within the stream's duplicate window: this is that job.
    pub duplicate: bool,
}

/// Why a job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The queue is at its limits.
    #[error("the queue is full")]
    Full(#[source] NatsPublishError),
    /// The server or the stream can't be reached.
    #[error("the queue can't be reached: {0}")]
    Unavailable(#[source] NatsPublishError),
    /// The message is larger than the server takes.
    #[error("the job is larger than the queue takes")]
    TooLarge(#[source] NatsPublishError),
    /// The job can't be written as JSON.
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
    /// A producer on this connection.
    pub fn new(jetstream: jetstream::Context) -> Self {
        Self { jetstream }
    }

    /// Publishes a job and waits for the stream's acknowledgement.
    ///
    /// # Errors
    /// When the stream refuses the job or can't be reached; it was then not accepted, although a job
    /// whose acknowledgement got lost may still run. The same id published again is the same job.
    pub async fn publish(&self, submission: &Submission) -> Result<Accepted, PublishError> {
        self.publish_as(submission, submission.job.id.as_str()).await
    }

    /// As [`Producer::publish`], under another message id than the job's: for a job that was published before and taken
    /// back, which the stream would otherwise take for the same one.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub async fn publish_as(
        &self,
        submission: &Submission,
        message_id: &str,
    ) -> Result<Accepted, PublishError> {
        let body = json::to_bytes(&submission.job, about(&submission.job))?;
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

    /// Publishes a reference that came after its job, and waits for the stream's acknowledgement.
    ///
    /// # Errors
    /// When the stream refuses it or can't be reached.
    pub async fn publish_reference(
        &self,
        reference: &LateReference,
        trace: &TraceContext,
    ) -> Result<(), PublishError> {
        let body = Bytes::from(serde_json::to_vec(reference)?);
        let mut headers = HeaderMap::new();
        trace.write_to(&mut headers);
        // Only for attempts at this one: the same text may come again after another.
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
        loop {
            match self.publish_once(subject, headers.clone(), body.clone()).await {
                Ok(ack) => return Ok(ack),
                Err(error) => match classify(&error) {
                    PublishFailure::Unavailable if attempt < ATTEMPTS => {
                        attempt += 1;
                        tokio::time::sleep(PAUSE).await;
                    }
                    PublishFailure::Unavailable => return Err(PublishError::Unavailable(error)),
                    PublishFailure::Full => return Err(PublishError::Full(error)),
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
