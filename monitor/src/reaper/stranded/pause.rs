//! Pauses consumers whose acknowledgement floor may hide a stranded job.
//!
//! While a consumer always has a message in flight, the server may keep the floor below a stranded job. A paused consumer
//! delivers nothing. Once the messages in flight have ended, its floor is the last delivered message.
//!
//! A pause delays a tenant's jobs. Hence a consumer is paused only after its oldest delivered message was in the queue
//! for long, and resumed within seconds unless the queue holds more delivered messages than are in flight.

use std::time::Duration;

use async_nats::datetime;
use async_nats::jetstream::consumer::Info;
use futures::TryStreamExt;

use super::filters;
use crate::reaper::termination::{ReapError, Reaper, jetstream_error};

/// Longest pause, in ack waits of the consumer. It includes the two ack waits for which a stranded job must be seen.
const MAX_PAUSE_ACK_WAITS: u32 = 8;
/// Readings of a paused consumer, and the time before each. Acknowledged messages are deleted by then.
const READINGS: usize = 5;
const READING_DELAY: Duration = Duration::from_secs(1);

/// Pauses the consumer until its messages in flight have ended, if one of its messages is stranded.
///
/// # Errors
/// When the server can't be asked. The pause then ends by itself.
pub(super) async fn drain(reaper: &Reaper, consumer: &Info) -> Result<(), ReapError> {
    let name = consumer.name.as_str();
    // The server's clock ends the pause, so the product's clock does not apply.
    let until = datetime::add_std_duration(
        datetime::now(),
        consumer.config.ack_wait * MAX_PAUSE_ACK_WAITS + READING_DELAY * 10,
    )
    .map_err(jetstream_error("pause a consumer"))?;
    reaper
        .jobs
        .pause_consumer(name, until)
        .await
        .map_err(jetstream_error("pause a consumer"))?;
    let found = has_stranded(reaper, consumer).await;
    if matches!(found, Ok(true)) {
        tracing::warn!(
            consumer = name,
            "a stranded job was found; pausing its consumer to end it"
        );
    } else {
        resume(reaper, consumer).await;
    }
    found.map(|_| ())
}

/// Resumes a paused consumer. If that fails, the pause ends by itself.
pub(super) async fn resume(reaper: &Reaper, consumer: &Info) {
    if let Err(error) = reaper.jobs.resume_consumer(&consumer.name).await {
        tracing::warn!(%error, consumer = consumer.name, "consumer not resumed; its pause ends by itself");
    }
}

/// Returns whether the queue holds more delivered messages of a paused consumer than are in flight.
async fn has_stranded(reaper: &Reaper, consumer: &Info) -> Result<bool, ReapError> {
    for _ in 0..READINGS {
        tokio::time::sleep(READING_DELAY).await;
        let before = info(reaper, consumer).await?;
        let mut messages = 0;
        for filter in filters(consumer) {
            messages += count(reaper, filter).await?;
        }
        let after = info(reaper, consumer).await?;
        // Otherwise the numbers are of different moments.
        if numbers(&before) == numbers(&after) {
            let in_flight = after.num_ack_pending as u64;
            return Ok(messages > after.num_pending + in_flight);
        }
    }
    Ok(false)
}

async fn info(reaper: &Reaper, consumer: &Info) -> Result<Info, ReapError> {
    reaper
        .jobs
        .consumer_info(&consumer.name)
        .await
        .map_err(jetstream_error("read a consumer"))
}

/// Returns the number of messages of a filter.
async fn count(reaper: &Reaper, filter: &str) -> Result<u64, ReapError> {
    let subjects: Vec<(String, usize)> = reaper
        .jobs
        .info_with_subjects(filter)
        .await
        .map_err(jetstream_error("count a consumer's jobs"))?
        .try_collect()
        .await
        .map_err(jetstream_error("count a consumer's jobs"))?;
    Ok(subjects.iter().map(|(_, messages)| *messages as u64).sum())
}

/// Returns the numbers that every publication, delivery and acknowledgement changes.
fn numbers(consumer: &Info) -> (u64, usize, u64) {
    (
        consumer.num_pending,
        consumer.num_ack_pending,
        consumer.delivered.consumer_sequence,
    )
}
