//! Terminates jobs that used up their deliveries and whose advisory was lost.
//!
//! JetStream publishes that advisory once, as a plain message: it is lost while `ADVISORIES` is missing, full or without
//! a leader. The job then stays in the queue, and no worker receives it again.
//!
//! Such a job is recognized by its consumer's acknowledgement floor. Every message that the consumer may still deliver
//! or that a worker holds is above the floor. If no worker holds any, the floor is the last delivered message, which the
//! server reports late. While workers always hold one, the server may keep the floor below a stranded job, which then
//! ends at the next moment without a job in flight. A message of a work queue at or below the floor is either stranded or about to be deleted,
//! because it was acknowledged a moment ago. Hence a message must be found twice, with a pause in between.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use futures::TryStreamExt;
use precis_runtime::clock::Instant;
use precis_runtime::nats::is_missing;
use precis_schemas::topology::MAX_DELIVERIES;
use tokio_util::sync::CancellationToken;

use super::max_deliveries::termination;
use super::termination::{ReapError, Reaper, jetstream_error};

/// Most messages of one consumer per sweep.
const MAX_SWEEP: usize = 1_000;
/// Bounds of the time between two sweeps. In between, it is the shortest ack wait of the consumers.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(30);
/// Ack waits between the first and the last sighting of a stranded job.
const ACK_WAITS: u32 = 2;

/// A message below the floor of a consumer. A recreated consumer is another one.
type Sighting = (String, i128, u64);

/// Sweeps the queue until shutdown.
pub(crate) async fn run(reaper: Reaper, stop: CancellationToken) {
    let mut sightings = Sightings::default();
    let mut interval = MIN_INTERVAL;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match sweep(&reaper, &mut sightings, &stop).await {
            Ok(ack_wait) => interval = ack_wait.clamp(MIN_INTERVAL, MAX_INTERVAL),
            Err(error) => tracing::warn!(%error, "sweep for stranded jobs failed; retrying"),
        }
    }
}

/// Terminates stranded jobs. Returns the shortest ack wait of the consumers.
async fn sweep(
    reaper: &Reaper,
    sightings: &mut Sightings<Sighting>,
    stop: &CancellationToken,
) -> Result<Duration, ReapError> {
    let consumers: Vec<Info> = reaper
        .jobs
        .consumers()
        .try_collect()
        .await
        .map_err(jetstream_error("list the queue's consumers"))?;
    // Read after the consumers: a message below this sequence is gone.
    let state = reaper
        .jobs
        .get_info()
        .await
        .map_err(jetstream_error("read the state of the queue"))?
        .state;
    let mut found = Vec::new();
    for consumer in &consumers {
        if floor(consumer) < state.first_sequence || state.messages == 0 {
            continue;
        }
        for filter in filters(consumer) {
            found.extend(below_floor(reaper, consumer, filter).await?);
        }
    }
    let waits: HashMap<&str, &Info> = consumers
        .iter()
        .map(|consumer| (consumer.name.as_str(), consumer))
        .collect();
    sightings.update(found, Instant::now());
    for (sighting, since) in sightings.iter() {
        let (name, _, sequence) = sighting;
        let Some(consumer) = waits.get(name.as_str()) else {
            continue;
        };
        if stop.is_cancelled() {
            break;
        }
        if since.elapsed() < consumer.config.ack_wait * ACK_WAITS {
            continue;
        }
        // A failure with one job must not delay the others.
        if let Err(error) = terminate(reaper, consumer, *sequence).await {
            tracing::warn!(%error, sequence, consumer = name, "stranded job not terminated; retrying");
        }
    }
    let ack_waits = consumers.iter().map(|consumer| consumer.config.ack_wait);
    Ok(ack_waits.min().unwrap_or(MAX_INTERVAL))
}

/// Returns the subjects of a consumer's jobs.
fn filters(consumer: &Info) -> Vec<&str> {
    let config = &consumer.config;
    let one = Some(config.filter_subject.as_str()).filter(|filter| !filter.is_empty());
    let several = config.filter_subjects.iter().map(String::as_str);
    one.into_iter().chain(several).collect()
}

/// Returns the sequence up to which the consumer delivers no message again, and no worker holds one.
fn floor(consumer: &Info) -> u64 {
    if consumer.num_ack_pending == 0 {
        consumer.delivered.stream_sequence
    } else {
        consumer.ack_floor.stream_sequence
    }
}

/// Returns the messages of a filter up to the consumer's acknowledgement floor.
async fn below_floor(reaper: &Reaper, consumer: &Info, filter: &str) -> Result<Vec<Sighting>, ReapError> {
    let created = consumer.created.unix_timestamp_nanos();
    let (mut next, mut found) = (1, Vec::new());
    while found.len() < MAX_SWEEP {
        // Read from the leader: a replica may still have a message that was acknowledged.
        let sequence = match reaper.jobs.get_first_raw_message_by_subject(filter, next).await {
            Ok(message) => message.sequence,
            Err(error) if is_missing(&error) => break,
            Err(error) => return Err(jetstream_error("read a job")(error)),
        };
        if sequence > floor(consumer) {
            break;
        }
        found.push((consumer.name.clone(), created, sequence));
        next = sequence + 1;
    }
    Ok(found)
}

async fn terminate(reaper: &Reaper, consumer: &Info, sequence: u64) -> Result<(), ReapError> {
    let message = match reaper.jobs.get_raw_message(sequence).await {
        Ok(message) => message,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(jetstream_error("read a job")(error)),
    };
    let deliveries = u64::try_from(consumer.config.max_deliver)
        .ok()
        .filter(|deliveries| *deliveries > 0);
    reaper
        .terminate(&message, &termination(deliveries.unwrap_or(MAX_DELIVERIES)))
        .await
}

/// When each message was first seen, for those that are seen in every sweep since.
#[derive(Debug)]
struct Sightings<K>(HashMap<K, Instant>);

impl<K> Default for Sightings<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Sightings<K> {
    /// Replaces the messages by those of a sweep at `now`. Messages that were seen before keep their time.
    fn update(&mut self, found: impl IntoIterator<Item = K>, now: Instant) {
        let mut earlier = std::mem::take(&mut self.0);
        self.0 = found
            .into_iter()
            .map(|key| {
                let since = earlier.remove(&key).unwrap_or(now);
                (key, since)
            })
            .collect();
    }

    /// Returns the messages of the last sweep and when each was first seen.
    fn iter(&self) -> impl Iterator<Item = (&K, &Instant)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_a_sweep_misses_is_new_afterwards() {
        let (mut sightings, start) = (Sightings::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let since = |sightings: &Sightings<u64>, key| sightings.0.get(&key).copied();
        sightings.update([1, 2], at(0));
        sightings.update([2, 3], at(10));
        assert_eq!(since(&sightings, 1), None);
        assert_eq!(since(&sightings, 2), Some(at(0)));
        assert_eq!(since(&sightings, 3), Some(at(10)));
        sightings.update([1, 2], at(20));
        assert_eq!(since(&sightings, 1), Some(at(20)));
        assert_eq!(since(&sightings, 2), Some(at(0)));
    }
}
