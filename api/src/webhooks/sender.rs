//! From the stream of announcements to their receivers: retries, the deadline, dead letters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{AckKind, Message};
use futures::StreamExt;
use jiff::Timestamp;
use precis_runtime::boot;
use precis_runtime::clock;
use precis_runtime::topology;
use precis_schemas::callback::Announcement;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::topology::webhook_consumer;
use precis_schemas::{Token, headers, subject, time};
use rand::Rng as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::payload::{self, Payload};
use super::post::{self, Attempt, Poster};
use crate::metrics;
use crate::state::AppState;

/// How long a pull waits for an announcement.
const PULL: Duration = Duration::from_secs(5);
/// Pause after the stream could not be read.
const PAUSE: Duration = Duration::from_secs(1);
/// Shortest and longest pause of an announcement whose receiver has as many attempts going on as it gets.
const BUSY: Duration = Duration::from_secs(1);
const LONGEST_BUSY: Duration = Duration::from_secs(60);
/// Shortest and longest time between two looks at what has not ended.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LAST_LOOK: Duration = Duration::from_secs(15);

/// Attempts that go on at each receiver (scheme, host and port).
#[derive(Debug, Clone, Default)]
struct Receivers(Arc<Mutex<HashMap<String, usize>>>);

/// A place among the attempts at a receiver; given up when dropped.
#[derive(Debug)]
struct Place {
    receiver: String,
    all: Receivers,
}

impl Receivers {
    /// A place, unless the receiver has `most` attempts already.
    fn enter(&self, url: &str, most: usize) -> Option<Place> {
        let receiver = reqwest::Url::parse(url).ok()?.origin().ascii_serialization();
        // A poisoned lock still holds usable counts.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(receiver.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place {
            receiver,
            all: self.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.receiver) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.receiver);
            }
        }
    }
}

/// Sends webhooks.
#[derive(Clone)]
struct Sender {
    state: AppState,
    connection: boot::NatsConnection,
    poster: Poster,
    receivers: Receivers,
}

/// Takes announcements from the stream and posts them, until the process is to stop; what is not done then is
/// delivered again, to this gateway or another.
///
/// # Errors
/// When the consumer can't be set up.
pub(crate) async fn run(
    state: AppState,
    connection: boot::NatsConnection,
    replicas: usize,
    manage: bool,
) -> anyhow::Result<()> {
    let spec = webhook_consumer();
    let consumer = topology::consumer(&connection.jetstream, &spec, replicas, manage).await?;
    let settings = &state.webhooks().settings;
    let places = Arc::new(Semaphore::new(settings.concurrency));
    let poster = Poster::new(
        state.webhooks().policy.clone(),
        Duration::from_secs(settings.timeout_seconds),
        settings.ca_file.as_deref(),
    )?;
    let sender = Sender {
        state,
        connection,
        poster,
        receivers: Receivers::default(),
    };
    tokio::spawn(async move { sender.pull(consumer, places).await });
    Ok(())
}

impl Sender {
    async fn pull(self, consumer: PullConsumer, places: Arc<Semaphore>) {
        let stop = self.state.stop().clone();
        while !stop.is_cancelled() {
            let round = async {
                // Nothing is taken from the stream that there is no place for.
                drop(places.acquire().await?);
                self.fetch(&consumer, &places).await
            };
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = round => outcome,
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "webhooks can't be read");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }

    async fn fetch(&self, consumer: &PullConsumer, places: &Arc<Semaphore>) -> Result<(), async_nats::Error> {
        let free = places.available_permits().max(1);
        let mut messages = consumer
            .batch()
            .max_messages(free)
            .expires(PULL)
            .messages()
            .await?;
        while let Some(message) = messages.next().await {
            let place = places.clone().acquire_owned().await?;
            self.clone().start(message?, place);
        }
        Ok(())
    }

    fn start(self, message: Message, place: OwnedSemaphorePermit) {
        tokio::spawn(async move {
            if let Err(error) = self.handle(&message).await {
                // Not acknowledged: it is delivered again.
                tracing::warn!(%error, "a webhook could not be settled");
            }
            drop(place);
        });
    }

    /// Does what can be done about an announcement now, and settles it.
    async fn handle(&self, message: &Message) -> Result<(), async_nats::Error> {
        let Ok(announcement) = serde_json::from_slice::<Announcement>(&message.payload) else {
            let reason = Refusal::new(ErrorCode::InvalidRequest, "not an announcement of version 1");
            return self.bury(message, reason, "unreadable").await;
        };
        let webhooks = self.state.webhooks();
        let callback = &announcement.callback;
        let most = webhooks.settings.concurrency_per_receiver;
        let deadline = Duration::from_secs(webhooks.settings.deadline_seconds);
        // First of all: what is to be posted is not looked up as often as a receiver is found busy.
        let place = self.receivers.enter(&callback.url, most);
        let waited = since(announcement.announced_at);
        if place.is_none() && waited < deadline {
            return later(message, jittered(busy_pause(waited))).await;
        }
        let (body, ended_at) = match payload::of(&self.state, &announcement).await {
            Ok(Payload::Ready(body, ended_at)) => (body, ended_at),
            Ok(Payload::NotYet) => {
                let age = since(announcement.announced_at) / 4;
                return later(message, age.clamp(FIRST_LOOK, LAST_LOOK)).await;
            }
            Ok(Payload::Gone(reason)) => return self.bury(message, reason, "gone").await,
            Err(_) => return later(message, PAUSE).await,
        };
        let age = since(ended_at);
        let Some(signer) = webhooks.secrets.of(callback, &announcement.tenant) else {
            let reason = Refusal::new(ErrorCode::CallbackRefused, "there is no secret to sign with");
            return self.bury(message, reason, "refused").await;
        };
        let Some(place) = place else {
            if age >= deadline {
                let reason = given_up("the receiver had no time for it", deadline);
                return self.bury(message, reason, "given_up").await;
            }
            return later(message, jittered(busy_pause(waited))).await;
        };
        let id = announcement.webhook_id();
        let attempt = self
            .poster
            .post(post::Message {
                url: &callback.url,
                id: &id,
                body,
                signer,
            })
            .await;
        drop(place);
        match attempt {
            Attempt::Taken => {
                metrics::webhook("delivered");
                tracing::info!(webhook = id, "delivered a webhook");
                message.double_ack().await
            }
            Attempt::Unwanted => {
                let reason = Refusal::new(
                    ErrorCode::CallbackFailed,
                    "the receiver answered 410: it wants no more",
                );
                self.bury(message, reason, "unwanted").await
            }
            Attempt::Refused(problem) => {
                let reason = Refusal::new(ErrorCode::CallbackRefused, problem);
                self.bury(message, reason, "refused").await
            }
            Attempt::Failed { problem, retry_after } => {
                if age >= deadline {
                    let reason = given_up(&problem, deadline);
                    return self.bury(message, reason, "given_up").await;
                }
                metrics::webhook("failed");
                let pause = self.pause(age, retry_after);
                tracing::info!(
                    webhook = id,
                    problem,
                    seconds = pause.as_secs_f64(),
                    "a webhook is tried again later"
                );
                later(message, pause).await
            }
        }
    }

    /// The pause before the next attempt: as long again as it has been tried, so that pauses double without anybody
    /// counting them, with some randomness; not less than the receiver asks for, and never past the deadline.
    fn pause(&self, age: Duration, retry_after: Option<Duration>) -> Duration {
        let settings = &self.state.webhooks().settings;
        let first = Duration::from_secs(settings.first_retry_seconds);
        let longest = Duration::from_secs(settings.longest_retry_seconds);
        let pause = jittered(age.clamp(first, longest));
        let left = Duration::from_secs(settings.deadline_seconds).saturating_sub(age);
        pause
            .max(retry_after.unwrap_or_default().min(longest))
            .min(left.max(first))
    }

    /// Copies an announcement that nobody will post to `DEAD`, and takes it off its stream.
    async fn bury(
        &self,
        message: &Message,
        reason: Refusal,
        outcome: &'static str,
    ) -> Result<(), async_nats::Error> {
        let info = message.info()?;
        let submitted_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos())
            .map_or_else(|_| clock::now(), time::to_millis);
        tracing::warn!(subject = %message.subject, sequence = info.stream_sequence, %reason, "a webhook is given up");
        let attempts = u64::try_from(info.delivered).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(
            headers::MESSAGE_ID,
            format!("dead-webhook-{}", info.stream_sequence),
        );
        headers.insert(headers::ORIGINAL_SUBJECT, message.subject.as_str());
        headers.insert(headers::DEAD_REASON, reason.code.as_str());
        let letter = DeadLetter::new(
            info.stream_sequence,
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
        self.connection
            .jetstream
            .send_publish(subject, publish)
            .await?
            .await?;
        metrics::webhook(outcome);
        message.double_ack().await
    }
}

/// The pause of an announcement that has waited so long for a receiver that is busy: the longer, the longer.
fn busy_pause(waited: Duration) -> Duration {
    (waited / 4).clamp(BUSY, LONGEST_BUSY)
}

fn given_up(problem: &str, deadline: Duration) -> Refusal {
    let seconds = deadline.as_secs();
    Refusal::new(
        ErrorCode::CallbackFailed,
        format!("{problem}; there was no success within {seconds} seconds"),
    )
}

async fn later(message: &Message, pause: Duration) -> Result<(), async_nats::Error> {
    message.ack_with(AckKind::Nak(Some(pause))).await
}

fn since(at: Timestamp) -> Duration {
    Duration::try_from(clock::now().duration_since(at)).unwrap_or_default()
}

/// A time around `pause`, so that what failed together is not tried again together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_busy_receiver_asks_less_and_less() {
        let pause = |seconds| busy_pause(Duration::from_secs(seconds)).as_secs();
        assert_eq!([0, 4, 40, 400].map(pause), [1, 1, 10, 60]);
        // Within a day, a few thousand times and not a hundred thousand.
        let (mut waited, mut looks) = (Duration::ZERO, 0);
        while waited < Duration::from_secs(24 * 3600) {
            waited += busy_pause(waited);
            looks += 1;
        }
        assert!(looks < 2_000, "{looks}");
    }

    #[test]
    fn a_receiver_has_so_many_places_and_another_has_its_own() {
        let receivers = Receivers::default();
        let first = receivers.enter("https://a.example/x", 2).unwrap();
        let _second = receivers.enter("https://a.example:443/y", 2).unwrap();
        assert!(receivers.enter("https://a.example/z", 2).is_none());
        assert!(receivers.enter("https://b.example/", 2).is_some());
        drop(first);
        assert!(receivers.enter("https://a.example/z", 2).is_some());
    }
}
