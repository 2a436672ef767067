//! Pauses consumers whose acknowledgement floor may hide a stranded job.
//!
//! While a consumer always has a message in flight, the server may keep the floor below a stranded job. A paused consumer
//! delivers nothing. Once the messages in flight have ended, its floor is the last delivered message.
//!
//! A pause delays a tenant's jobs. Hence a consumer is paused only after its oldest delivered message was in the queue
//! for long, and resumed within seconds unless the queue holds more delivered messages than are in flight.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::datetime;
use async_nats::jetstream::consumer::Info;
use precis_runtime::nats::is_missing;
use tokio_util::sync::CancellationToken;

use super::filters;
use crate::reaper::termination::{ReapError, Reaper, jetstream_error};

/// Ack waits for which a consumer's oldest message is in flight before the consumer may be paused.
const SUSPICIOUS_ACK_WAITS: u32 = 20;
/// How often that time doubles while pauses find nothing.
const MAX_DOUBLINGS: u32 = 6;
/// Longest pause, in ack waits of the consumer. It includes the two ack waits for which a stranded job must be seen.
const MAX_PAUSE_ACK_WAITS: u32 = 8;
/// Readings of a paused consumer, and the time before each. Acknowledged messages are deleted by then.
const READINGS: usize = 5;
const READING_DELAY: Duration = Duration::from_secs(1);
/// Most messages in flight of a consumer that is read. Each takes a request.
const MAX_IN_FLIGHT: usize = 1_000;

/// A consumer: its name and the time of its creation.
pub(super) type ConsumerKey = (String, i128);

/// Pauses in a row that found nothing, by consumer. A tenant with long jobs is paused ever more rarely.
#[derive(Debug, Default)]
pub(super) struct FruitlessPauses(HashMap<ConsumerKey, u32>);

impl FruitlessPauses {
    /// Returns the ack waits for which the oldest message of a consumer is in flight before the consumer is paused.
    pub(super) fn suspicious_ack_waits(&self, consumer: &ConsumerKey) -> u32 {
        let doublings = self.0.get(consumer).copied().unwrap_or_default();
        SUSPICIOUS_ACK_WAITS << doublings.min(MAX_DOUBLINGS)
    }

    /// Records whether a pause found a stranded job.
    pub(super) fn record(&mut self, consumer: ConsumerKey, found: bool) {
        if found {
            self.0.remove(&consumer);
        } else {
            *self.0.entry(consumer).or_default() += 1;
        }
    }

    /// Forgets consumers that have nothing in flight.
    pub(super) fn retain(&mut self, busy: &HashSet<ConsumerKey>) {
        self.0.retain(|consumer, _| busy.contains(consumer));
    }
}

/// Pauses the consumer until its messages in flight have ended, if one of its messages is stranded. Returns whether one
/// is.
///
/// # Errors
/// When the server can't be asked. The pause then ends by itself.
pub(super) async fn drain(
    reaper: &Reaper,
    consumer: &Info,
    stop: &CancellationToken,
) -> Result<bool, ReapError> {
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
    let found = tokio::select! {
        found = has_stranded(reaper, consumer) => found,
        // A stopping monitor leaves no consumer paused.
        () = stop.cancelled() => Ok(false),
    };
    if matches!(found, Ok(true)) {
        tracing::warn!(
            consumer = name,
            "a stranded job was found; pausing its consumer to end it"
        );
    } else {
        resume(reaper, consumer).await;
    }
    found
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
        if before.num_ack_pending > MAX_IN_FLIGHT {
            continue;
        }
        let in_flight = before.num_ack_pending;
        let delivered = count_delivered(reaper, &before, in_flight + 1).await?;
        let after = info(reaper, consumer).await?;
        // Otherwise the numbers are of different moments. New jobs change neither of them.
        if in_flight_at(&before) == in_flight_at(&after) {
            return Ok(delivered > in_flight);
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

/// Returns the number of the consumer's messages that were delivered and are still in the queue, or `max` if there are
/// more.
async fn count_delivered(reaper: &Reaper, consumer: &Info, max: usize) -> Result<usize, ReapError> {
    let last = consumer.delivered.stream_sequence;
    let mut messages = 0;
    for filter in filters(consumer) {
        let mut next = 1;
        while messages < max && next <= last {
            match reaper.jobs.get_first_raw_message_by_subject(filter, next).await {
                Ok(message) if message.sequence <= last => next = message.sequence + 1,
                Ok(_) => break,
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(jetstream_error("read a job")(error)),
            }
            messages += 1;
        }
    }
    Ok(messages)
}

/// Returns the numbers that every delivery and acknowledgement changes.
fn in_flight_at(consumer: &Info) -> (usize, u64, u64) {
    (
        consumer.num_ack_pending,
        consumer.delivered.consumer_sequence,
        consumer.ack_floor.consumer_sequence,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_that_find_nothing_become_rare() {
        let mut pauses = FruitlessPauses::default();
        let (busy, other) = (("busy".to_owned(), 1), ("other".to_owned(), 1));
        for expected in [20, 40, 80, 160, 320, 640, 1_280, 1_280] {
            assert_eq!(pauses.suspicious_ack_waits(&busy), expected);
            pauses.record(busy.clone(), false);
        }
        assert_eq!(pauses.suspicious_ack_waits(&other), 20);
        pauses.record(busy.clone(), true);
        assert_eq!(pauses.suspicious_ack_waits(&busy), 20);
        pauses.record(busy.clone(), false);
        pauses.record(other.clone(), false);
        pauses.retain(&HashSet::from([other.clone()]));
        assert_eq!(pauses.suspicious_ack_waits(&busy), 20);
        assert_eq!(pauses.suspicious_ack_waits(&other), 40);
    }
}
