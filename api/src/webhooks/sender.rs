//! Delivers webhook events: takes announcements from the stream `WEBHOOKS`, posts them, retries until the deadline, and
//! dead-letters the rest.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{AckKind, Message};
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use precis_runtime::backoff::Backoff;
use precis_runtime::boot::NatsConnection;
use precis_runtime::clock;
use precis_runtime::config::WebhooksConfig;
use precis_runtime::durable::{DurableConsumer, TopologySettings};
use precis_schemas::callback::Announcement;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::topology::webhook_consumer;
use precis_schemas::{Token, headers, subject, time};
use rand::Rng as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Webhooks;
use super::post::{Attempt, Poster, Request};
use super::receivers::{AttemptLimits, Receivers};
use crate::metrics;

/// How long a pull waits for an announcement.
const PULL_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest and longest delay after a failed pull.
const MIN_PULL_DELAY: Duration = Duration::from_millis(200);
const MAX_PULL_DELAY: Duration = Duration::from_secs(10);
/// The delay after the payload could not be read.
const READ_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Shortest and longest delay of an announcement whose receiver or tenant has no free slot.
const MIN_BUSY_DELAY: Duration = Duration::from_secs(1);
const MAX_BUSY_DELAY: Duration = Duration::from_secs(60);
/// Shortest and longest delay of an announcement whose job or batch has not ended.
const MIN_PENDING_DELAY: Duration = Duration::from_millis(200);
const MAX_PENDING_DELAY: Duration = Duration::from_secs(15);

/// The payload of an announcement, as far as it is known.
pub(crate) enum Payload {
    /// The body to post.
    Ready {
        /// The event as JSON.
        body: Bytes,
        /// When the job or batch ended.
        ended_at: Timestamp,
    },
    /// The job or batch has not ended.
    Pending,
    /// The payload no longer exists, for this reason.
    Expired(Refusal),
}

/// Renders the payloads of announcements.
pub(crate) trait PayloadSource: Clone + Send + Sync + 'static {
    /// Returns the payload of an announcement.
    ///
    /// # Errors
    /// Returns an error if the queue is unavailable. A retry may succeed.
    fn payload(&self, announcement: &Announcement) -> impl Future<Output = Result<Payload, Refusal>> + Send;
}

#[derive(Clone)]
struct Sender<Source> {
    webhooks: Arc<Webhooks>,
    payloads: Source,
    connection: NatsConnection,
    poster: Poster,
    receivers: Receivers,
    stop: CancellationToken,
}

/// Starts to deliver webhooks, until `stop`. NATS redelivers the unfinished ones to this gateway or another.
///
/// # Errors
/// Returns an error if the consumer or the HTTP client cannot be set up.
pub(crate) async fn start(
    webhooks: Arc<Webhooks>,
    payloads: impl PayloadSource,
    connection: NatsConnection,
    topology: TopologySettings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let durable = DurableConsumer {
        queue: connection.clone(),
        settings: topology,
        spec: webhook_consumer(),
    };
    let consumer = durable.open().await?;
    let settings = &webhooks.settings;
    let permits = Arc::new(Semaphore::new(settings.concurrency));
    let poster = Poster::new(
        webhooks.policy.clone(),
        Duration::from_secs(settings.timeout_seconds),
        settings.ca_file.as_deref(),
    )?;
    let sender = Sender {
        webhooks,
        payloads,
        connection,
        poster,
        receivers: Receivers::default(),
        stop,
    };
    tokio::spawn(async move { sender.run(durable, consumer, permits).await });
    Ok(())
}

impl<Source: PayloadSource> Sender<Source> {
    async fn run(self, durable: DurableConsumer, mut consumer: PullConsumer, permits: Arc<Semaphore>) {
        let stop = self.stop.clone();
        let mut backoff = Backoff::new(MIN_PULL_DELAY, MAX_PULL_DELAY);
        while !stop.is_cancelled() {
            let round = async {
                // Pull nothing while every permit is taken.
                drop(permits.acquire().await?);
                self.pull(&consumer, &permits).await
            };
            let Some(outcome) = stop.run_until_cancelled(round).await else {
                return;
            };
            let Err(error) = outcome else {
                backoff.reset();
                continue;
            };
            tracing::warn!(%error, "announcements could not be read; retrying");
            if !backoff.wait(&stop).await {
                return;
            }
            match durable.restore().await {
                Ok(restored) => consumer = restored,
                Err(error) => tracing::warn!(%error, "the consumer of announcements can't be restored"),
            }
        }
    }

    async fn pull(&self, consumer: &PullConsumer, permits: &Arc<Semaphore>) -> Result<(), async_nats::Error> {
        let free = permits.available_permits().max(1);
        let mut messages = consumer
            .batch()
            .max_messages(free)
            .expires(PULL_TIMEOUT)
            .messages()
            .await?;
        while let Some(message) = messages.next().await {
            let permit = permits.clone().acquire_owned().await?;
            self.clone().spawn(message?, permit);
        }
        Ok(())
    }

    fn spawn(self, message: Message, permit: OwnedSemaphorePermit) {
        tokio::spawn(async move {
            if let Err(error) = self.deliver(&message).await {
                // Without an acknowledgement, NATS redelivers the message.
                tracing::warn!(%error, "webhook could not be settled");
            }
            drop(permit);
        });
    }

    /// Makes one attempt, if it is time for one, and settles the message accordingly.
    async fn deliver(&self, message: &Message) -> Result<(), async_nats::Error> {
        let Ok(announcement) = serde_json::from_slice::<Announcement>(&message.payload) else {
            let reason = Refusal::new(ErrorCode::InvalidRequest, "not an announcement of version 1");
            return self.dead_letter(message, reason, "unreadable").await;
        };
        let callback = &announcement.callback;
        let settings = &self.webhooks.settings;
        let deadline = Duration::from_secs(settings.deadline_seconds);
        // Check the limits before loading the payload: a busy receiver is checked often, and loading costs a
        // read.
        let limits = AttemptLimits {
            per_receiver: settings.concurrency_per_receiver,
            per_tenant: settings.concurrency_per_tenant,
        };
        let slot = self
            .receivers
            .try_acquire(&callback.url, &announcement.tenant, limits);
        let waited = age_of(announcement.announced_at);
        if slot.is_none() && waited < deadline {
            return retry_after(message, jittered(busy_delay(waited))).await;
        }
        let (body, ended_at) = match self.payloads.payload(&announcement).await {
            Ok(Payload::Ready { body, ended_at }) => (body, ended_at),
            Ok(Payload::Pending) => {
                let delay =
                    (age_of(announcement.announced_at) / 4).clamp(MIN_PENDING_DELAY, MAX_PENDING_DELAY);
                return retry_after(message, delay).await;
            }
            Ok(Payload::Expired(reason)) => return self.dead_letter(message, reason, "gone").await,
            Err(_) => return retry_after(message, READ_RETRY_DELAY).await,
        };
        let age = age_of(ended_at);
        let Some(signer) = self.webhooks.secrets.signer(callback, &announcement.tenant) else {
            let reason = Refusal::new(ErrorCode::CallbackRefused, "there is no secret to sign with");
            return self.dead_letter(message, reason, "refused").await;
        };
        let Some(slot) = slot else {
            if age >= deadline {
                let reason = gave_up(
                    "the receiver, or the tenant's other receivers, were busy with other webhooks",
                    deadline,
                );
                return self.dead_letter(message, reason, "given_up").await;
            }
            return retry_after(message, jittered(busy_delay(waited))).await;
        };
        let id = announcement.webhook_id();
        let request = Request {
            url: &callback.url,
            id: &id,
            body,
            signer,
        };
        let attempt = self.poster.post(request).await;
        drop(slot);
        match attempt {
            Attempt::Delivered => {
                metrics::webhook("delivered");
                tracing::info!(webhook = id, "webhook delivered");
                message.double_ack().await
            }
            Attempt::Gone => {
                let reason = Refusal::new(
                    ErrorCode::CallbackFailed,
                    "the receiver answered 410 Gone, which stops further attempts",
                );
                self.dead_letter(message, reason, "unwanted").await
            }
            Attempt::Rejected(reason) => {
                let reason = Refusal::new(ErrorCode::CallbackRefused, reason);
                self.dead_letter(message, reason, "refused").await
            }
            Attempt::Failed { problem, .. } if age >= deadline => {
                let reason = gave_up(&problem, deadline);
                self.dead_letter(message, reason, "given_up").await
            }
            Attempt::Failed {
                problem,
                retry_after: requested,
            } => {
                metrics::webhook("failed");
                let delay = retry_delay(settings, age, requested);
                let seconds = delay.as_secs_f64();
                tracing::info!(
                    webhook = id,
                    problem,
                    seconds,
                    "webhook delivery failed; retrying"
                );
                retry_after(message, delay).await
            }
        }
    }

    /// Copies an undeliverable announcement to the stream `DEAD` and removes it from its own.
    async fn dead_letter(
        &self,
        message: &Message,
        reason: Refusal,
        outcome: &'static str,
    ) -> Result<(), async_nats::Error> {
        let info = message.info()?;
        let submitted_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos())
            .map_or_else(|_| clock::now(), time::to_millis);
        let sequence = info.stream_sequence;
        tracing::warn!(subject = %message.subject, sequence, %reason, "webhook moved to the dead letters");
        let attempts = u64::try_from(info.delivered).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(headers::MESSAGE_ID, format!("dead-webhook-{sequence}"));
        headers.insert(headers::ORIGINAL_SUBJECT, message.subject.as_str());
        headers.insert(headers::DEAD_REASON, reason.code.as_str());
        let letter = DeadLetter::new(
            sequence,
            message.subject.as_str(),
            &message.payload,
            reason,
            attempts,
            submitted_at,
            clock::now(),
        );
        let body = serde_json::to_vec(&letter)?;
        let publish = PublishMessage::build().headers(headers).payload(body.into());
        let subject = subject::dead_of(&Token::sanitized("webhook"));
        let jetstream = &self.connection.jetstream;
        jetstream.send_publish(subject, publish).await?.await?;
        metrics::webhook(outcome);
        message.double_ack().await
    }
}

/// Returns the delay before the next attempt: the event's age, so that delays double without a counter; plus jitter; at
/// least the receiver's `Retry-After`, however long; at most the time left until the deadline.
fn retry_delay(settings: &WebhooksConfig, age: Duration, requested: Option<Duration>) -> Duration {
    let first = Duration::from_secs(settings.first_retry_seconds);
    let longest = Duration::from_secs(settings.longest_retry_seconds);
    let left = Duration::from_secs(settings.deadline_seconds).saturating_sub(age);
    jittered(age.clamp(first, longest))
        .max(requested.unwrap_or_default())
        .min(left.max(first))
}

/// Returns the delay of an announcement whose receiver is busy: it grows with the time already waited.
fn busy_delay(waited: Duration) -> Duration {
    (waited / 4).clamp(MIN_BUSY_DELAY, MAX_BUSY_DELAY)
}

fn gave_up(problem: &str, deadline: Duration) -> Refusal {
    let seconds = deadline.as_secs();
    Refusal::new(
        ErrorCode::CallbackFailed,
        format!("{problem}; no attempt succeeded within {seconds} seconds"),
    )
}

async fn retry_after(message: &Message, delay: Duration) -> Result<(), async_nats::Error> {
    message.ack_with(AckKind::Nak(Some(delay))).await
}

fn age_of(at: Timestamp) -> Duration {
    Duration::try_from(clock::now().duration_since(at)).unwrap_or_default()
}

/// Varies `delay` by up to a quarter, so that webhooks that failed together are not retried together.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attempt_comes_before_the_receiver_wants_one_except_at_the_deadline() {
        let settings = WebhooksConfig {
            first_retry_seconds: 1,
            longest_retry_seconds: 60,
            deadline_seconds: 3_600,
            ..WebhooksConfig::default()
        };
        let age = Duration::from_secs(600);
        let delay = |requested: Option<u64>| retry_delay(&settings, age, requested.map(Duration::from_secs));
        assert!(delay(None) <= Duration::from_secs(75));
        // Longer than the longest delay of its own.
        assert_eq!(delay(Some(900)), Duration::from_secs(900));
        for beyond in [3_000, 86_400, u64::MAX] {
            assert_eq!(delay(Some(beyond)), Duration::from_secs(3_000));
        }
    }

    #[test]
    fn a_busy_receiver_is_checked_less_and_less_often() {
        let delay = |seconds| busy_delay(Duration::from_secs(seconds)).as_secs();
        assert_eq!([0, 4, 40, 400].map(delay), [1, 1, 10, 60]);
        // A day of waiting costs a few thousand checks, not a hundred thousand.
        let (mut waited, mut checks) = (Duration::ZERO, 0);
        while waited < Duration::from_secs(24 * 3600) {
            waited += busy_delay(waited);
            checks += 1;
        }
        assert!(checks < 2_000, "{checks}");
    }
}
