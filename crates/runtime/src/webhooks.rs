//! Announcing that something has ended whose end is to be posted.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, message::PublishMessage};
use precis_schemas::callback::Announcement;
use precis_schemas::{JobResult, headers};

use crate::clock;
use crate::nats::{PublishFailure, classify};

/// Tries before a server without an answer is given up.
const ATTEMPTS: u32 = 5;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(200);

/// Announces the end of a job, if somebody wants to hear of it. Whoever ends a job calls this before its result is
/// stored: then none is missed. Twice the same within two minutes is once. When there is no room for it, that is
/// logged: a job must not stay without its end because of its webhook.
///
/// # Errors
/// When the stream can't be reached; the whole can be repeated.
pub async fn announce_end(jetstream: &jetstream::Context, result: &JobResult) -> Result<(), PublishError> {
    let Some(announcement) = Announcement::of_result(result, clock::now()) else {
        return Ok(());
    };
    match announce(jetstream, &announcement).await {
        Err(error) if classify(&error) == PublishFailure::Full => {
            tracing::error!(job = %result.id, "there is no room for the webhook of a job: it is not sent");
            Ok(())
        }
        sent => sent,
    }
}

/// Puts an announcement into its stream.
///
/// # Errors
/// When the stream can't be reached or is full.
pub async fn announce(
    jetstream: &jetstream::Context,
    announcement: &Announcement,
) -> Result<(), PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert(headers::MESSAGE_ID, announcement.webhook_id());
    // Texts and times always have a JSON form.
    let body = serde_json::to_vec(announcement).unwrap_or_default();
    let mut attempt = 1;
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
            Err(error) if classify(&error) == PublishFailure::Unavailable && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}
