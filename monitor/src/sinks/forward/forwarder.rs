//! The way of a message: pulled, made into an item, delivered, and only then acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::topology::TopologyError;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::item::Item;
use super::metrics;
use super::payload::{Fate, Parcel, Target};
use super::source::{Read, Source};
use crate::backoff::Backoff;
use crate::consumer::lag;
use crate::consumer::{Delivered, Intake, acknowledge};

/// How long requests that are under way are waited for after the word to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// First pause before another look at a message whose prediction isn't there, or not yet at the receiver.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause between two looks at such a message; it grows with every look.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long such a message waits: for its prediction from its being published, and for the receiver to have the
/// prediction from when both were there. By then a receiver that was away has it, or the stream has forgotten it.
const MOST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How long a pull waits for more messages.
const PULL: Duration = Duration::from_millis(500);

/// Moves results from a stream to a receiver.
#[derive(Debug)]
pub(crate) struct Forwarder<T, S> {
    /// Where they go.
    pub(crate) target: T,
    /// What they are made of.
    pub(crate) source: S,
    /// Where they come from.
    pub(crate) intake: Intake,
    /// Share of the jobs that is forwarded, 0 to 1, unless a job says otherwise.
    pub(crate) sampling_rate: f64,
    /// Most messages in hand.
    pub(crate) most: usize,
    /// How long a receiver that fails again and again is left alone.
    pub(crate) rest: Duration,
    /// The word to stop.
    pub(crate) stop: CancellationToken,
}

impl<T: Target, S: Source> Forwarder<T, S> {
    /// Forwards until it is told to stop.
    ///
    /// # Errors
    /// When the consumer can't be set up at the start. Later troubles are waited out.
    pub(crate) async fn run(self) -> Result<(), TopologyError> {
        let sink = self.target.name();
        metrics::begin(sink);
        // A receiver has a reader for each stream.
        let reader = self.intake.spec.name.trim_start_matches("monitor-");
        let looking = lag::begin(&self.intake, reader, &self.stop).await?;
        let mut consumer = self.intake.consumer().await?;
        let mut breaker = Breaker::new(self.rest);
        let mut backoff = Backoff::default();
        tracing::info!(sink, "results are forwarded");
        while !self.stop.is_cancelled() {
            let (messages, trouble) = self.intake.pull(&consumer, self.most, PULL, &self.stop).await;
            if !messages.is_empty() {
                backoff.reset();
                self.forward(messages, &mut breaker).await;
            } else if let Some(trouble) = trouble {
                tracing::warn!(sink, error = trouble, "results can't be pulled; trying again");
                if backoff.wait_or_stop(&self.stop).await {
                    break;
                }
                self.recover(&mut consumer).await;
            }
        }
        looking.abort();
        Ok(())
    }

    /// The consumer may be gone, with its stream or because somebody has deleted it.
    async fn recover(&self, consumer: &mut PullConsumer) {
        match self.intake.consumer().await {
            Ok(again) => *consumer = again,
            Err(error) => {
                tracing::warn!(sink = self.target.name(), %error, "the consumer of results can't be set up");
            }
        }
    }

    /// Delivers what was pulled and settles its messages. Nothing more is pulled meanwhile, so that memory is bounded
    /// however long the receiver is away.
    async fn forward(&self, messages: Vec<Delivered>, breaker: &mut Breaker) {
        let sink = self.target.name();
        let messages = Arc::new(messages);
        let read = self.source.read(Arc::clone(&messages), self.sampling_rate).await;
        let Some(read) = read else {
            tracing::error!(sink, "results could not be read; they will be delivered again");
            return;
        };
        let (mut items, mut places, mut skipped, mut settled) = (vec![], vec![], vec![], vec![]);
        for (place, (one, read)) in messages.iter().zip(read).enumerate() {
            let wanted = match read {
                Read::Item(item) if self.target.wants(&item) => Some(*item),
                Read::NotYet if is_younger(one.published_at, clock::now()) => {
                    one.hand_back(Some(pause_after(one.attempts))).await;
                    None
                }
                Read::Item(_) | Read::Skip | Read::NotYet => {
                    skipped.push(one);
                    None
                }
            };
            settled.push(AtomicBool::new(wanted.is_none()));
            if let Some(item) = wanted {
                items.push(item);
                places.push(place);
            }
        }
        metrics::skipped(sink, skipped.len());
        acknowledge(skipped).await;
        tokio::select! {
            () = self.deliver(&items, &places, &messages, &settled, breaker) => {}
            never = hold(&messages, &settled, self.intake.spec.ack_wait / 4) => match never {},
            () = self.drained() => {}
        }
        let left = messages
            .iter()
            .zip(&settled)
            .filter(|(_, done)| !done.load(Ordering::Relaxed));
        let mut count = 0;
        for (one, _) in left {
            one.hand_back(None).await;
            count += 1;
        }
        if count > 0 {
            let _best_effort = self.intake.queue.client.flush().await;
            tracing::warn!(
                sink,
                results = count,
                "stopped before they were delivered; they will come again"
            );
        }
    }

    async fn deliver(
        &self,
        items: &[Item],
        places: &[usize],
        messages: &[Delivered],
        settled: &[AtomicBool],
        breaker: &mut Breaker,
    ) {
        let sink = self.target.name();
        let mut parcel = Parcel::new(items, &self.target);
        while !parcel.is_done() {
            let (fates, pause) = parcel.round(&self.target, breaker).await;
            let mut done = Vec::with_capacity(fates.len());
            for (index, fate) in fates {
                let place = places[index];
                let one = &messages[place];
                match fate {
                    Fate::Taken => {
                        metrics::record(sink, true);
                        done.push(one);
                    }
                    Fate::NotYet(reason) if may_come(one.published_at, &items[index], clock::now()) => {
                        tracing::debug!(
                            sink,
                            sequence = one.sequence,
                            reason,
                            "not yet; trying again later"
                        );
                        one.hand_back(Some(pause_after(one.attempts))).await;
                    }
                    Fate::Refused(reason) | Fate::NotYet(reason) => {
                        metrics::record(sink, false);
                        // Else it was handed back, and comes again.
                        if self.intake.bury(sink, one, reason).await {
                            done.push(one);
                        }
                    }
                }
                settled[place].store(true, Ordering::Relaxed);
            }
            acknowledge(done).await;
            if let Some(pause) = pause {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.cancelled() => return,
                }
            }
        }
    }

    /// Comes when a stopping process can't wait for the receiver any longer.
    async fn drained(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    }
}

/// The pause before a message is looked at again that was delivered so often.
fn pause_after(attempts: u64) -> Duration {
    let looks = u32::try_from(attempts).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(looks).min(LONGEST_PAUSE)
}

fn is_younger(since: Timestamp, now: Timestamp) -> bool {
    since.duration_until(now).unsigned_abs() < MOST_WAIT
}

/// Whether the receiver may still get the prediction of an item that was published at `published_at`. How often it was
/// looked at says nothing of that: it may have waited for its job, too.
fn may_come(published_at: Timestamp, item: &Item, now: Timestamp) -> bool {
    is_younger(published_at.max(item.result.finished_at), now)
}

/// Tells JetStream every so often that the messages are being worked on, so that it doesn't deliver them again.
async fn hold(messages: &[Delivered], settled: &[AtomicBool], every: Duration) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(every).await;
        for (one, _) in messages
            .iter()
            .zip(settled)
            .filter(|(_, done)| !done.load(Ordering::Relaxed))
        {
            one.hold().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::row::Scorer;

    #[test]
    fn a_receiver_that_was_away_has_a_day_from_when_both_were_there() {
        let json = include_str!("../../../../schemas/wire/v1/result.succeeded.json");
        let mut result: precis_schemas::JobResult = serde_json::from_str(json).unwrap();
        let now = clock::now();
        let ago = |hours| now - SignedDuration::from_hours(hours);
        let mut may_still_come = |published, finished| {
            result.finished_at = ago(finished);
            let item = Item::prediction(result.clone(), None, 0, &Scorer::default());
            may_come(ago(published), &item, now)
        };
        assert!(may_still_come(1, 23));
        // The reference has waited long for its job.
        assert!(may_still_come(48, 2));
        assert!(!may_still_come(25, 30));
    }

    #[test]
    fn pauses_grow_to_five_minutes() {
        let pauses = [1, 2, 149, 150, u64::MAX].map(|attempts| pause_after(attempts).as_secs());
        assert_eq!(pauses, [2, 4, 298, 300, 300]);
    }
}
