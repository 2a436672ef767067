//! The end of a job without a worker, in an order that can be repeated after a crash at any point.

use std::collections::BTreeMap;

use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind, Stream};

use precis_runtime::boot::NatsConnection;
use precis_runtime::nats::{PublishFailure, classify};
use precis_runtime::results::{ResultError, Results, StoredResult};
use precis_runtime::topology;
use precis_runtime::trace_context::TraceContext;
use precis_runtime::webhooks;
use precis_schemas::dead::DeadLetter;
use precis_schemas::termination::{RawJob, Termination, answer, dead_task};
use precis_schemas::topology::JOBS;
use precis_schemas::{JobResult, Outcome, subject};

use crate::consumer::timestamp;
use crate::{dead_letter, metrics};

/// Why a job could not be ended now. It stays where it is, and the next try begins from the start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReapError {
    /// A stream did not confirm a message.
    #[error("{what}: {source}")]
    Publish {
        /// Which message.
        what: &'static str,
        /// Why.
        source: PublishError,
    },
    /// JetStream did not give or delete a message, or did not list what it has.
    #[error("{what}: {source}")]
    JetStream {
        /// What was being done.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Turns an error of JetStream into one of ours.
pub(crate) fn failed<E>(what: &'static str) -> impl FnOnce(E) -> ReapError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| ReapError::JetStream {
        what,
        source: source.into(),
    }
}

/// What both reapers do with a job in the end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    jetstream: jetstream::Context,
    pub(crate) jobs: Stream,
    results: Results,
}

impl Reaper {
    /// # Errors
    /// When the streams can't be looked up.
    pub(crate) async fn new(queue: &NatsConnection) -> Result<Self, ResultError> {
        Ok(Self {
            jetstream: queue.jetstream.clone(),
            jobs: topology::stream(&queue.jetstream, JOBS).await?,
            results: Results::open(&queue.jetstream).await?,
        })
    }

    /// Answers the job, copies it to `DEAD` unless it has merely expired, and takes it off the queue: in this
    /// order, and each step can be repeated.
    ///
    /// # Errors
    /// When a stream can't be reached; the whole can be repeated.
    pub(crate) async fn end(
        &self,
        message: &StreamMessage,
        termination: &Termination,
    ) -> Result<(), ReapError> {
        let raw = RawJob {
            subject: message.subject.as_str(),
            body: &message.payload,
            sequence: message.sequence,
            submitted_at: timestamp(message.time),
        };
        let record = answer(raw, termination, precis_runtime::clock::now());
        let finished_elsewhere = match record {
            Some(record) => self.answer(message, record).await?,
            None => false,
        };
        if termination.outcome != Outcome::Expired && !finished_elsewhere {
            let letter = DeadLetter::new(
                raw.sequence,
                raw.subject,
                raw.body,
                termination.reason.clone(),
                termination.attempts,
                raw.submitted_at,
                precis_runtime::clock::now(),
            );
            let id = format!("dead-{}", raw.sequence);
            dead_letter::publish(&self.jetstream, &dead_task(raw.subject), &id, letter)
                .await
                .map_err(|source| ReapError::Publish {
                    what: "a dead letter",
                    source,
                })?;
        }
        self.delete(raw.sequence).await?;
        let trace = TraceContext::from_message(Some(&message.headers));
        tracing::warn!(
            trace_id = trace.as_ref().map(TraceContext::trace_id),
            subject = raw.subject,
            sequence = raw.sequence,
            reason = %termination.reason,
            finished_elsewhere,
            "a job ended without a worker"
        );
        Ok(())
    }

    /// Publishes the record unless the job has one; true when it has one that is not ours.
    async fn answer(&self, message: &StreamMessage, record: JobResult) -> Result<bool, ReapError> {
        let code = record.error.as_ref().map(|refusal| refusal.code);
        let earlier = match self.results.giving_way(&record.id, record.job_sequence).await {
            Ok(earlier) => earlier.unwrap_or(0),
            // What can't be read is a record all the same.
            Err(ResultError::Decode { .. }) => 0,
            Err(error) => return Err(failed("read the first result")(error)),
        };
        // Before the result: then none is missed, wherever this is cut off.
        webhooks::announce_end(&self.jetstream, &record)
            .await
            .map_err(|source| ReapError::Publish {
                what: "the webhook of a job",
                source,
            })?;
        let sent = match self.publish(message, &record, earlier).await {
            Err(error) if classify(&error) == PublishFailure::TooLarge => {
                // What the publisher wrote is what makes it large, and the publisher has it.
                let without_texts = JobResult {
                    text: String::new(),
                    reference: None,
                    metadata: BTreeMap::new(),
                    ..record.clone()
                };
                self.publish(message, &without_texts, earlier).await
            }
            sent => sent,
        };
        match sent {
            Ok(()) => {
                if let Some(code) = code {
                    metrics::answered(code);
                }
                Ok(false)
            }
            Err(error) if classify(&error) == PublishFailure::NotFirst => {
                self.is_finished_by_a_worker(&record).await
            }
            Err(source) => Err(ReapError::Publish {
                what: "a result",
                source,
            }),
        }
    }

    /// Publishes the record in the place of the one at `earlier` of `RESULTS`; 0: as the first.
    async fn publish(
        &self,
        message: &StreamMessage,
        record: &JobResult,
        earlier: u64,
    ) -> Result<(), PublishError> {
        let mut headers = async_nats::HeaderMap::new();
        if let Some(trace) = TraceContext::from_message(Some(&message.headers)) {
            trace.write_to(&mut headers);
        }
        let publish = PublishMessage::build()
            .headers(headers)
            // A record is made of texts, numbers and times: it always has a JSON form.
            .payload(serde_json::to_vec(record).unwrap_or_default().into())
            .expected_last_subject_sequence(earlier);
        let subject = subject::result_of(&record.id);
        self.jetstream.send_publish(subject, publish).await?.await?;
        Ok(())
    }

    /// Whether the result that came first is a worker's for this very message. Otherwise it is our own from an
    /// earlier try, or that of another job with the same id, and the letter must be stored.
    async fn is_finished_by_a_worker(&self, ours: &JobResult) -> Result<bool, ReapError> {
        let first = match self.results.get_from_leader(&ours.id).await {
            Ok(first) => first,
            Err(ResultError::Decode { .. }) => None,
            Err(error) => return Err(failed("read the first result")(error)),
        };
        Ok(first.is_some_and(|StoredResult { result, .. }| {
            result.job_sequence == ours.job_sequence && result.worker.is_some()
        }))
    }

    /// Deletes a job's message; that it is gone already is as good.
    async fn delete(&self, sequence: u64) -> Result<(), ReapError> {
        match self.jobs.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) => match self.jobs.get_raw_message(sequence).await {
                Err(lookup) if is_gone(&lookup) => Ok(()),
                _ => Err(failed("delete a job")(error)),
            },
        }
    }
}

/// Whether the stream has no such message.
pub(crate) fn is_gone(error: &RawMessageError) -> bool {
    match error.kind() {
        RawMessageErrorKind::NoMessageFound => true,
        RawMessageErrorKind::JetStream(server) => server.code() == 404,
        _ => false,
    }
}
