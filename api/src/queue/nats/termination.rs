//! Terminates jobs: those that a client cancelled, and those that expired while they waited.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use precis_producer::ResultError;
use precis_runtime::clock;
use precis_runtime::nats::{PublishFailure, classify, is_missing};
use precis_runtime::results::publish_terminated;
use precis_runtime::webhooks;
use precis_schemas::error_code::Refusal;
use precis_schemas::event::Cancel;
use precis_schemas::termination::{RawJob, Termination, terminated_result};
use precis_schemas::{JobHandle, JobResult, subject};

use super::{NatsQueue, TerminationOutcome, internal, request_failed, unreadable_result};

/// Most attempts to store a record while other writers conflict.
const STORE_ATTEMPTS: u32 = 4;
/// Delay before a record is stored again while another writer's record is in process.
const STORE_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How long to wait for a reply to each cancel message. The first ones may miss a worker that is fetching the job or
/// reconnecting.
const REPLY_TIMEOUTS: &[Duration] = &[
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_millis(500),
];

impl NatsQueue {
    /// See [`QueueBackend::terminate`](super::QueueBackend::terminate).
    ///
    /// The record is stored before the job leaves the queue. If this process dies in between, the job has its result,
    /// and the worker that receives the job sees it.
    pub(super) async fn terminate_job(
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
            Err(error) => return Err(request_failed("reading a job", &error)),
        };
        let submitted_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
        let job = RawJob {
            subject: message.subject.as_str(),
            body: &message.payload,
            sequence,
            submitted_at: submitted_at.unwrap_or(jiff::Timestamp::MAX),
        };
        let Some(record) =
            terminated_result(job, termination, clock::now()).filter(|record| record.id == handle.id)
        else {
            return Ok(None);
        };
        if let Err(error) = webhooks::announce_end(&self.connection.jetstream, &record).await {
            return Err(request_failed("announcing a webhook", &error));
        }
        let outcome = self.store_first(&message, record).await?;
        // The job has ended even if this fails: the worker that receives it drops it.
        if let TerminationOutcome::Terminated(_) = &outcome
            && let Err(refusal) = self.remove_job(sequence).await
        {
            tracing::warn!(job = %handle, %refusal, "terminated job could not be removed from the queue");
        }
        Ok(Some(outcome))
    }

    /// Stores `record`, unless the job already has a final one.
    async fn store_first(
        &self,
        message: &StreamMessage,
        mut record: JobResult,
    ) -> Result<TerminationOutcome, Refusal> {
        let jetstream = &self.connection.jetstream;
        let mut earlier = 0;
        for _ in 0..STORE_ATTEMPTS {
            let Err(error) = publish_terminated(jetstream, message, &record, earlier).await else {
                return Ok(TerminationOutcome::Terminated(Box::new(record)));
            };
            match classify(&error) {
                PublishFailure::Conflict => match self.results.get_from_leader(&record.id).await {
                    Ok(Some(stored)) if stored.result.is_superseded_by(record.job_sequence) => {
                        earlier = stored.sequence;
                    }
                    Ok(Some(stored)) => {
                        return Ok(TerminationOutcome::AlreadyFinished(Box::new(stored.result)));
                    }
                    // The earlier record has just expired.
                    Ok(None) => earlier = 0,
                    Err(ResultError::Decode { id, source }) => return Err(unreadable_result(&id, &source)),
                    Err(error) => return Err(request_failed("reading a result", &error)),
                },
                PublishFailure::InProcess => tokio::time::sleep(STORE_RETRY_DELAY).await,
                PublishFailure::TooLarge => record.remove_publisher_fields(),
                PublishFailure::Full
                | PublishFailure::SubjectFull
                | PublishFailure::Unavailable
                | PublishFailure::Other => {
                    return Err(request_failed("storing the record of a termination", &error));
                }
            }
        }
        tracing::error!(job = %record.id, "job could not be terminated");
        Err(internal())
    }

    /// Deletes a job's message. Succeeds if it is already gone.
    async fn remove_job(&self, sequence: u64) -> Result<(), Refusal> {
        self.queued_jobs.forget(sequence);
        match self.jobs_stream.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) => match self.jobs_stream.get_raw_message(sequence).await {
                Err(lookup) if is_missing(&lookup) => Ok(()),
                _ => Err(request_failed("removing a job from the queue", &error)),
            },
        }
    }
}

/// Sends a cancel message, and repeats it until the worker that runs the job replies.
///
/// No worker may ever reply. The client would remember a request without a reply for ever, so the reply comes to a
/// subscription, which ends with this call.
pub(super) async fn send_cancel(client: Client, cancel: Cancel) {
    // An id and a number always serialize.
    let body: Bytes = serde_json::to_vec(&cancel).unwrap_or_default().into();
    let subject = subject::cancel_of(&cancel.id);
    let inbox = client.new_inbox();
    let mut replies = match client.subscribe(inbox.clone()).await {
        Ok(replies) => replies,
        Err(error) => return tracing::debug!(job = %cancel.id, %error, "cancel message not sent"),
    };
    for timeout in REPLY_TIMEOUTS {
        let sent = client.publish_with_reply(subject.clone(), inbox.clone(), body.clone());
        if let Err(error) = sent.await {
            tracing::debug!(job = %cancel.id, %error, "cancel message reached no worker");
        }
        if tokio::time::timeout(*timeout, reply_of_worker(&mut replies))
            .await
            .is_ok()
        {
            return;
        }
    }
}

/// Waits for a worker's reply. The server's own reply says that no worker listens, and is ignored: one may start.
async fn reply_of_worker(replies: &mut Subscriber) {
    while let Some(reply) = replies.next().await {
        if reply.status.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use precis_runtime::fake_nats::FakeNats;
    use precis_schemas::JobId;

    use super::*;

    #[tokio::test]
    async fn cancel_messages_without_a_reply_leave_nothing_behind() {
        let server = FakeNats::start("2.15.1", |_| None).await;
        let client = async_nats::connect(server.url()).await.unwrap();
        // Sends all repeats at once.
        tokio::time::pause();
        join_all((0..10_000).map(|job_sequence| {
            let id = JobId::generate();
            tokio::spawn(send_cancel(client.clone(), Cancel { id, job_sequence }))
        }))
        .await;
        tokio::time::resume();
        let sent = 10_000 * REPLY_TIMEOUTS.len();
        while server.published().len() < sent || !server.subscriptions().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_reply_ends_the_repeats() {
        let server = FakeNats::start("2.15.1", |_| Some(Vec::new())).await;
        let client = async_nats::connect(server.url()).await.unwrap();
        let id = JobId::generate();
        send_cancel(client, Cancel { id, job_sequence: 7 }).await;
        assert_eq!(server.published().len(), 1);
    }
}
