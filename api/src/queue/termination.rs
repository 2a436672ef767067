//! Termination a job that nobody wants any more, or whose time is up while it waits.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind};
use async_nats::{Client, HeaderMap, Request};
use bytes::Bytes;
use precis_producer::ResultError;
use precis_runtime::nats::{PublishFailure, classify};
use precis_runtime::trace_context::TraceContext;
use precis_runtime::webhooks;
use precis_schemas::error_code::Refusal;
use precis_schemas::event::Cancel;
use precis_schemas::termination::{RawJob, Termination, answer};
use precis_schemas::{JobHandle, JobResult, subject, time};

use super::{NatsQueue, TerminationOutcome, hidden, trouble, unreadable};

/// Times that a record is tried to be stored when others come between.
const TRIES: u32 = 4;
/// Pauses before a worker is told again that a job is cancelled: it may have been fetching it, or reconnecting.
const NUDGES: &[Duration] = &[
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
];
/// How long the worker that has the job may take to say so.
const ANSWER: Duration = Duration::from_millis(500);

pub(super) fn is_missing(error: &RawMessageError) -> bool {
    match error.kind() {
        RawMessageErrorKind::NoMessageFound => true,
        RawMessageErrorKind::JetStream(server) => server.code() == 404,
        _ => false,
    }
}

impl NatsQueue {
    /// See [`Queue::end`](super::Queue::end). The record comes first and the queue second: when this process dies in
    /// between, the job has its answer, and the worker that gets it sees that.
    pub(super) async fn end_now(
        &self,
        handle: &JobHandle,
        termination: &Termination,
    ) -> Result<Option<TerminationOutcome>, Refusal> {
        let Some(sequence) = handle.sequence else {
            return Ok(None);
        };
        let message = match self.jobs_stream.get_raw_message(sequence).await {
            Ok(message) => message,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(trouble("reading a job", &error)),
        };
        let submitted_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
        let job = RawJob {
            subject: message.subject.as_str(),
            body: &message.payload,
            sequence,
            submitted_at: submitted_at.unwrap_or(jiff::Timestamp::MAX),
        };
        let Some(record) = answer(job, termination, time::now()).filter(|record| record.id == handle.id)
        else {
            return Ok(None);
        };
        if let Err(error) = webhooks::announce_end(&self.connection.jetstream, &record).await {
            return Err(trouble("announcing the webhook of a job", &error));
        }
        let ended = self.store_first(&message, record).await?;
        // The job has its end, whatever comes now: what stays in the queue is dropped by the worker that gets it.
        if let TerminationOutcome::Terminated(_) = &ended
            && let Err(refusal) = self.take_off(sequence).await
        {
            tracing::warn!(job = %handle, %refusal, "a job that has ended stays in the queue");
        }
        Ok(Some(ended))
    }

    /// Stores `record` unless its id has one that is final.
    async fn store_first(
        &self,
        message: &StreamMessage,
        mut record: JobResult,
    ) -> Result<TerminationOutcome, Refusal> {
        let mut earlier = 0;
        for _ in 0..TRIES {
            let Err(error) = self.store_record(message, &record, earlier).await else {
                return Ok(TerminationOutcome::Terminated(Box::new(record)));
            };
            match classify(&error) {
                PublishFailure::NotFirst => match self.results.get_from_leader(&record.id).await {
                    Ok(Some(stored)) if stored.result.gives_way_to(record.job_sequence) => {
                        earlier = stored.sequence;
                    }
                    Ok(Some(stored)) => {
                        return Ok(TerminationOutcome::AlreadyFinished(Box::new(stored.result)));
                    }
                    // It was there and is gone: its time was up just now.
                    Ok(None) => earlier = 0,
                    Err(ResultError::Decode { id, source }) => return Err(unreadable(&id, &source)),
                    Err(error) => return Err(trouble("reading a result", &error)),
                },
                PublishFailure::TooLarge => {
                    // What the publisher wrote is what makes it large, and the publisher has it.
                    record.text.clear();
                    record.reference = None;
                    record.metadata.clear();
                }
                PublishFailure::Full | PublishFailure::Unavailable | PublishFailure::Other => {
                    return Err(trouble("ending a job", &error));
                }
            }
        }
        tracing::error!(job = %record.id, "a job can't be ended");
        Err(hidden())
    }

    async fn store_record(
        &self,
        message: &StreamMessage,
        record: &JobResult,
        earlier: u64,
    ) -> Result<(), async_nats::jetstream::context::PublishError> {
        let mut headers = HeaderMap::new();
        if let Some(trace) = TraceContext::from_message(Some(&message.headers)) {
            trace.write_to(&mut headers);
        }
        let publish = PublishMessage::build()
            .headers(headers)
            // A record is made of texts, numbers and times: it always has a JSON form.
            .payload(serde_json::to_vec(record).unwrap_or_default().into())
            .expected_last_subject_sequence(earlier);
        let subject = subject::result_of(&record.id);
        let jetstream = &self.connection.jetstream;
        jetstream.send_publish(subject, publish).await?.await?;
        Ok(())
    }

    /// Deletes a job's message; that it is gone already is as good.
    async fn take_off(&self, sequence: u64) -> Result<(), Refusal> {
        match self.jobs_stream.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) => match self.jobs_stream.get_raw_message(sequence).await {
                Err(lookup) if is_missing(&lookup) => Ok(()),
                _ => Err(trouble("taking a job off the queue", &error)),
            },
        }
    }
}

/// Tells workers that a job is cancelled until the one that has it answers, if any has it.
pub(super) async fn nudge(client: Client, cancel: Cancel) {
    // An id and a number always have a JSON form.
    let body: Bytes = serde_json::to_vec(&cancel).unwrap_or_default().into();
    let subject = subject::cancel_of(&cancel.id);
    for pause in NUDGES {
        tokio::time::sleep(*pause).await;
        let request = Request::new().payload(body.clone()).timeout(Some(ANSWER));
        match client.send_request(subject.clone(), request).await {
            Ok(_) => return,
            Err(error) if error.kind() == RequestErrorKind::TimedOut => {}
            Err(error) => tracing::debug!(job = %cancel.id, %error, "no worker hears of a cancelled job"),
        }
    }
}
