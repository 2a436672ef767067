//! Publishes announcements of webhooks.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, message::PublishMessage};
use metrics::{Unit, counter, describe_counter};
use precis_schemas::callback::Announcement;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{JobResult, Token, headers, subject};

use crate::backoff::Backoff;
use crate::clock;
use crate::nats::classify;

const DEAD_LETTERS: &str = "precis_queue_webhooks_dead_lettered_total";
/// Maximum number of attempts while the server is unreachable.
const ATTEMPTS: u32 = 5;
/// Delays between attempts.
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_millis(800);

/// Describes the metric of this module.
pub fn describe_metrics() {
    describe_counter!(
        DEAD_LETTERS,
        Unit::Count,
        "Webhooks of jobs that became dead letters without an attempt, because too many of the tenant waited for their \
         receivers"
    );
    counter!(DEAD_LETTERS).increment(0);
}

/// Announces the webhook of a result, if its job has a callback.
///
/// Call it before storing the result, so that no crash loses the webhook. The stream deduplicates announcements for two
/// minutes. If the tenant has too many undelivered webhooks, the announcement becomes a dead letter: a missing webhook
/// must not keep a job from ending.
///
/// # Errors
/// If the stream is unreachable. Calling it again is safe.
pub async fn announce_end(jetstream: &jetstream::Context, result: &JobResult) -> Result<(), PublishError> {
    let Some(announcement) = result.announcement(clock::now()) else {
        return Ok(());
    };
    match announce(jetstream, &announcement, &announcement.webhook_id()).await {
        Err(error) if classify(&error).is_full() => {
            tracing::error!(
                job = %result.id,
                tenant = %result.tenant,
                "too many undelivered webhooks; storing a dead letter"
            );
            dead_letter(jetstream, result.job_sequence, &announcement).await?;
            counter!(DEAD_LETTERS).increment(1);
            Ok(())
        }
        sent => sent,
    }
}

/// Stores an announcement that `WEBHOOKS` rejected. Repeating the call stores no second letter.
async fn dead_letter(
    jetstream: &jetstream::Context,
    job_sequence: u64,
    announcement: &Announcement,
) -> Result<(), PublishError> {
    let reason = Refusal::new(
        ErrorCode::CallbackFailed,
        "too many webhooks of the tenant wait for their receivers",
    );
    let letter = DeadLetter::new(
        job_sequence,
        announcement.subject(),
        // Strings and times always serialize.
        &serde_json::to_vec(announcement).unwrap_or_default(),
        reason,
        0,
        announcement.announced_at,
        clock::now(),
    );
    let message = PublishMessage::build()
        .message_id(format!("dead-{}", announcement.webhook_id()))
        .header(headers::ORIGINAL_SUBJECT, letter.subject.as_str())
        .header(headers::DEAD_REASON, letter.reason.code.as_str())
        .payload(serde_json::to_vec(&letter).unwrap_or_default().into());
    let subject = subject::dead_of(&Token::sanitized("webhook"));
    jetstream.send_publish(subject, message).await?.await?;
    Ok(())
}

/// Publishes an announcement. The stream drops it if it got the same `message_id` less than two minutes ago.
///
/// # Errors
/// If the stream is unreachable or full. If an attempt ended without an answer, the error is that of the attempt, whatever
/// the later ones got: the announcement may be stored.
pub async fn announce(
    jetstream: &jetstream::Context,
    announcement: &Announcement,
    message_id: &str,
) -> Result<(), PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert(headers::MESSAGE_ID, message_id);
    // Strings and times always serialize.
    let body = serde_json::to_vec(announcement).unwrap_or_default();
    let mut attempt = 1;
    let mut backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
    let mut uncertain = None;
    loop {
        let message = PublishMessage::build()
            .headers(headers.clone())
            .payload(body.clone().into());
        let sent = match jetstream.send_publish(announcement.subject(), message).await {
            Ok(ack) => ack.await.map(|_| ()),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => return Ok(()),
            Err(error) if classify(&error).is_transient() && attempt < ATTEMPTS => {
                uncertain.get_or_insert(error);
                attempt += 1;
                backoff.sleep().await;
            }
            Err(error) => return Err(uncertain.unwrap_or(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::callback::{Callback, WebhookSubject};

    use super::*;
    use crate::fake_nats::FakeNats;
    use crate::nats::PublishFailure;

    #[tokio::test]
    async fn a_full_stream_after_an_unanswered_attempt_leaves_the_outcome_open() {
        let attempts = std::sync::atomic::AtomicUsize::new(0);
        let server = FakeNats::start("2.15.1", move |_| {
            let is_first = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let full = br#"{"error":{"code":400,"err_code":10077}}"#;
            (!is_first).then(|| full.to_vec())
        })
        .await;
        let mut jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        jetstream.set_timeout(Duration::from_secs(1));
        let announcement = Announcement {
            ended: WebhookSubject::Job {
                id: "a".parse().unwrap(),
                job_sequence: 7,
            },
            tenant: Token::sanitized("acme"),
            callback: Callback {
                url: "https://example.org/".to_owned(),
                key: None,
            },
            announced_at: clock::now(),
        };
        let error = announce(&jetstream, &announcement, "id").await.unwrap_err();
        assert_eq!(classify(&error), PublishFailure::Unavailable);
    }
}
