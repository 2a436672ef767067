//! Terminates jobs that used up their deliveries and whose advisory was lost.
//!
//! JetStream publishes that advisory once, as a plain message: it is lost while `ADVISORIES` is missing, full or without
//! a leader. The job then stays in the queue, and no worker receives it again.
//!
//! Such a job is recognized by its consumer's acknowledgement floor. Every message that the consumer may still deliver
//! or that a worker holds is above the floor. If no worker holds any, the floor is the last delivered message, which the
//! server reports late. A message of a work queue at or below the floor is either stranded or about to be deleted,
//! because it was acknowledged a moment ago. Hence a message must be found twice, with a pause in between.
//!
//! While workers always hold a message, the server may keep the floor below a stranded job. The module `pause` handles
//! such consumers.

mod pause;
mod sightings;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use futures::TryStreamExt;
use precis_runtime::clock::Instant;
use precis_runtime::nats::is_missing;
use precis_schemas::worker_consumers::MAX_SERVER_DELIVERIES;
use tokio_util::sync::CancellationToken;

use self::pause::{ConsumerKey, FruitlessPauses};
use self::sightings::Sightings;
use super::max_deliveries::termination;
use super::termination::{ReapError, Reaper, jetstream_error};

/// Most messages of one consumer per sweep.
const MAX_SWEEP: usize = 1_000;
/// Bounds of the time between two sweeps. In between, it is the shortest ack wait of the consumers.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(30);
/// Ack waits between the first and the last sighting of a stranded job.
const ACK_WAITS: u32 = 2;

/// A message of a consumer. A recreated consumer is another one.
type Sighting = (ConsumerKey, u64);

/// What sweeps have found.
#[derive(Default)]
struct Findings {
    /// Messages at or below the floor.
    stranded: Sightings<Sighting>,
    /// The oldest delivered message above the floor, of each consumer.
    oldest: Sightings<Sighting>,
    fruitless: FruitlessPauses,
}

/// Sweeps the queue until shutdown.
pub(crate) async fn run(reaper: Reaper, stop: CancellationToken) {
    let mut findings = Findings::default();
    let mut interval = MIN_INTERVAL;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match findings.sweep(&reaper, &stop).await {
            Ok(ack_wait) => interval = ack_wait.clamp(MIN_INTERVAL, MAX_INTERVAL),
            Err(error) => tracing::warn!(%error, "sweep for stranded jobs failed; retrying"),
        }
    }
}

impl Findings {
    /// Terminates stranded jobs. Returns the shortest ack wait of the consumers.
    async fn sweep(&mut self, reaper: &Reaper, stop: &CancellationToken) -> Result<Duration, ReapError> {
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
        let (mut stranded, mut oldest) = (Vec::new(), Vec::new());
        for consumer in &consumers {
            if consumer.delivered.stream_sequence < state.first_sequence || state.messages == 0 {
                continue;
            }
            for filter in filters(consumer) {
                let found = delivered(reaper, consumer, filter).await?;
                let sighting = |sequence| sighting(consumer, sequence);
                stranded.extend(found.below_floor.into_iter().map(sighting));
                oldest.extend(found.oldest_above.map(sighting));
            }
        }
        let busy = oldest.iter().map(|(consumer, _): &Sighting| consumer.clone());
        self.fruitless.retain(&busy.collect());
        let now = Instant::now();
        self.stranded.update(stranded, now);
        self.oldest.update(oldest, now);
        let by_name: HashMap<&str, &Info> = consumers
            .iter()
            .map(|consumer| (consumer.name.as_str(), consumer))
            .collect();
        self.terminate_stranded(reaper, &by_name, stop).await;
        self.pause_suspicious(reaper, &by_name, stop).await;
        let ack_waits = consumers.iter().map(|consumer| consumer.config.ack_wait);
        Ok(ack_waits.min().unwrap_or(MAX_INTERVAL))
    }

    async fn terminate_stranded(
        &self,
        reaper: &Reaper,
        consumers: &HashMap<&str, &Info>,
        stop: &CancellationToken,
    ) {
        let mut resumed = HashSet::new();
        for (consumer, sequence) in seen_for(&self.stranded, consumers, |_| ACK_WAITS) {
            if stop.is_cancelled() {
                return;
            }
            let name = &consumer.name;
            // A failure with one job must not delay the others.
            if let Err(error) = terminate(reaper, consumer, sequence).await {
                tracing::warn!(%error, sequence, consumer = name, "stranded job not terminated; retrying");
            } else if consumer.paused && resumed.insert(name) {
                pause::resume(reaper, consumer).await;
            }
        }
    }

    /// Pauses consumers whose floor hides a stranded job.
    async fn pause_suspicious(
        &mut self,
        reaper: &Reaper,
        consumers: &HashMap<&str, &Info>,
        stop: &CancellationToken,
    ) {
        let ack_waits = |consumer: &ConsumerKey| self.fruitless.suspicious_ack_waits(consumer);
        let suspicious: Vec<_> = seen_for(&self.oldest, consumers, ack_waits).collect();
        for (consumer, sequence) in suspicious {
            if stop.is_cancelled() {
                return;
            }
            // The consumer must look stranded for the full time again before the next pause.
            let seen = sighting(consumer, sequence);
            self.oldest.forget(&seen);
            match pause::drain(reaper, consumer, stop).await {
                Ok(found) => self.fruitless.record(seen.0, found),
                Err(error) => {
                    tracing::warn!(%error, consumer = consumer.name, "consumer not checked for stranded jobs");
                }
            }
        }
    }
}

fn sighting(consumer: &Info, sequence: u64) -> Sighting {
    let created = consumer.created.unix_timestamp_nanos();
    ((consumer.name.clone(), created), sequence)
}

/// Returns the messages that have been seen for that many ack waits of their consumer.
fn seen_for<'c>(
    sightings: &Sightings<Sighting>,
    consumers: &'c HashMap<&str, &'c Info>,
    ack_waits: impl Fn(&ConsumerKey) -> u32,
) -> impl Iterator<Item = (&'c Info, u64)> {
    sightings.iter().filter_map(move |((key, sequence), since)| {
        let consumer = *consumers.get(key.0.as_str())?;
        let is_due = since.elapsed() >= consumer.config.ack_wait * ack_waits(key);
        is_due.then_some((consumer, *sequence))
    })
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

/// Delivered messages of a consumer that are still in the queue.
#[derive(Default)]
struct Delivered {
    /// Those up to the acknowledgement floor.
    below_floor: Vec<u64>,
    /// The first one above it.
    oldest_above: Option<u64>,
}

/// Returns the delivered messages of a filter.
async fn delivered(reaper: &Reaper, consumer: &Info, filter: &str) -> Result<Delivered, ReapError> {
    let (mut next, mut found) = (1, Delivered::default());
    while found.below_floor.len() < MAX_SWEEP {
        // Read from the leader: a replica may still have a message that was acknowledged.
        let sequence = match reaper.jobs.get_first_raw_message_by_subject(filter, next).await {
            Ok(message) => message.sequence,
            Err(error) if is_missing(&error) => break,
            Err(error) => return Err(jetstream_error("read a job")(error)),
        };
        if sequence > floor(consumer) {
            found.oldest_above = Some(sequence).filter(|it| *it <= consumer.delivered.stream_sequence);
            break;
        }
        found.below_floor.push(sequence);
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
        .terminate(
            &message,
            &termination(deliveries.unwrap_or(MAX_SERVER_DELIVERIES)),
        )
        .await
}
