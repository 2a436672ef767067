//! Publishes dead letters.

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, message::PublishMessage};
use precis_runtime::nats::{PublishFailure, classify};
use precis_schemas::dead::DeadLetter;
use precis_schemas::{Token, headers, subject};

use crate::metrics;

/// Stores `letter` under `dead.v1.<task>`. Repeating the call with the same `message_id` stores no second letter.
///
/// If the letter exceeds the server's maximum message size, it is stored without its body and says so.
///
/// # Errors
/// When the stream does not confirm the letter.
pub(crate) async fn publish(
    jetstream: &jetstream::Context,
    task: &Token,
    message_id: &str,
    mut letter: DeadLetter,
) -> Result<(), PublishError> {
    let stored = match send(jetstream, task, message_id, &letter).await {
        Err(error) if classify(&error) == PublishFailure::TooLarge => {
            tracing::warn!(
                subject = letter.subject,
                sequence = letter.job_sequence,
                "dead letter too large; storing it without its body"
            );
            letter.strip_body();
            send(jetstream, task, message_id, &letter).await
        }
        outcome => outcome,
    };
    stored.inspect(|()| metrics::dead_letter(letter.reason.code))
}

async fn send(
    jetstream: &jetstream::Context,
    task: &Token,
    message_id: &str,
    letter: &DeadLetter,
) -> Result<(), PublishError> {
    let message = PublishMessage::build()
        // Serializing text, numbers and times never fails.
        .payload(serde_json::to_vec(letter).unwrap_or_default().into())
        .message_id(message_id)
        .header(headers::ORIGINAL_SUBJECT, letter.subject.as_str())
        .header(headers::DEAD_REASON, letter.reason.code.as_str());
    let acknowledgement = jetstream.send_publish(subject::dead_of(task), message).await?;
    acknowledgement.await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use precis_schemas::ErrorCode;
    use precis_schemas::error_code::Refusal;

    use super::*;

    #[test]
    fn a_letter_without_its_body_states_the_size() {
        let reason = Refusal::new(ErrorCode::TooManyAttempts, "delivered 5 times");
        let now = precis_runtime::clock::now();
        for body in [&b"abc"[..], b"\xff\x00\x01"] {
            let mut letter = DeadLetter::new(1, "jobs.v1.a", body, reason.clone(), 5, now, now);
            letter.strip_body();
            assert_eq!((&letter.body, &letter.body_base16), (&None, &None));
            assert!(
                letter
                    .reason
                    .message
                    .starts_with("delivered 5 times (the body, 3 bytes")
            );
        }
    }
}
