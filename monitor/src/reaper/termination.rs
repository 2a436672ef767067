//! Termination of a job, in an order that can be repeated after a crash at any point.

use async_nats::jetstream;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream;

use precis_runtime::boot::NatsConnection;
use precis_runtime::nats::{PublishFailure, classify, is_missing};
use precis_runtime::results::{ResultError, Results, StoredResult, publish_terminated};
use precis_runtime::topology;
use precis_runtime::trace_context::TraceContext;
use precis_runtime::webhooks;
use precis_schemas::dead::DeadLetter;
use precis_schemas::termination::{RawJob, Termination, dead_letter_task, terminated_result};
use precis_schemas::topology::JOBS;
use precis_schemas::{JobResult, Outcome};

use crate::consumer::timestamp;
use crate::{dead_letter, metrics};

/// Why a job could not be terminated. It stays in the queue, and the next attempt starts over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReapError {
    /// A stream did not confirm a message.
    #[error("{operation}: {source}")]
    Publish {
        /// The attempted operation.
        operation: &'static str,
        source: PublishError,
    },
    /// JetStream failed to return, list or delete messages.
    #[error("{operation}: {source}")]
    JetStream {
        /// The attempted operation.
        operation: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Wraps an error of JetStream.
pub(crate) fn jetstream_error<E>(operation: &'static str) -> impl FnOnce(E) -> ReapError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| ReapError::JetStream {
        operation,
        source: source.into(),
    }
}

/// Terminates jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    jetstream: jetstream::Context,
    pub(crate) jobs: Stream,
    results: Results,
}

impl Reaper {
    /// Looks up the streams.
    ///
    /// # Errors
    /// When a stream can't be looked up.
    pub(crate) async fn new(queue: &NatsConnection) -> Result<Self, ResultError> {
        Ok(Self {
            jetstream: queue.jetstream.clone(),
            jobs: topology::stream(&queue.jetstream, JOBS).await?,
            results: Results::open(&queue.jetstream).await?,
        })
    }

    /// Publishes the job's result, copies the job to `DEAD` unless it merely expired, and deletes it from the queue, in
    /// this order. Every step can be repeated.
    ///
    /// # Errors
    /// When a stream can't be reached. Repeat the whole call.
    pub(crate) async fn terminate(
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
        let record = terminated_result(raw, termination, precis_runtime::clock::now());
        let finished_elsewhere = match record {
            Some(record) => self.publish_first(message, record).await?,
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
            dead_letter::publish(&self.jetstream, &dead_letter_task(raw.subject), &id, letter)
                .await
                .map_err(|source| ReapError::Publish {
                    operation: "publish the dead letter",
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
            "job terminated without a worker"
        );
        Ok(())
    }

    /// Publishes the result unless the job has one. Returns `true` if a worker published it.
    async fn publish_first(&self, message: &StreamMessage, record: JobResult) -> Result<bool, ReapError> {
        let code = record.error.as_ref().map(|refusal| refusal.code);
        let earlier = match self
            .results
            .superseded_sequence(&record.id, record.job_sequence)
            .await
        {
            Ok(earlier) => earlier.unwrap_or(0),
            // An unreadable record counts as one.
            Err(ResultError::Decode { .. }) => 0,
            Err(error) => return Err(jetstream_error("read the first result")(error)),
        };
        // Announced before the result, so that a crash in between loses no webhook.
        webhooks::announce_end(&self.jetstream, &record)
            .await
            .map_err(|source| ReapError::Publish {
                operation: "announce the webhook",
                source,
            })?;
        let sent = match publish_terminated(&self.jetstream, message, &record, earlier).await {
            Err(error) if classify(&error) == PublishFailure::TooLarge => {
                let mut small = record.clone();
                small.remove_publisher_fields();
                publish_terminated(&self.jetstream, message, &small, earlier).await
            }
            sent => sent,
        };
        match sent {
            Ok(()) => {
                if let Some(code) = code {
                    metrics::terminated(code);
                }
                Ok(false)
            }
            Err(error) if classify(&error) == PublishFailure::Conflict => {
                self.was_finished_by_a_worker(&record).await
            }
            Err(source) => Err(ReapError::Publish {
                operation: "publish the result",
                source,
            }),
        }
    }

    /// Whether a worker published the first result for this message. Otherwise the result is from an earlier attempt
    /// here, or of another job with the same id, and a dead letter is due.
    async fn was_finished_by_a_worker(&self, ours: &JobResult) -> Result<bool, ReapError> {
        let first = match self.results.get_from_leader(&ours.id).await {
            Ok(first) => first,
            Err(ResultError::Decode { .. }) => None,
            Err(error) => return Err(jetstream_error("read the first result")(error)),
        };
        Ok(first.is_some_and(|StoredResult { result, .. }| {
            result.job_sequence == ours.job_sequence && result.worker.is_some()
        }))
    }

    /// Deletes a job's message, if it still exists.
    async fn delete(&self, sequence: u64) -> Result<(), ReapError> {
        match self.jobs.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) => match self.jobs.get_raw_message(sequence).await {
                Err(lookup) if is_missing(&lookup) => Ok(()),
                _ => Err(jetstream_error("delete a job")(error)),
            },
        }
    }
}
