//! A forwarder: pulls messages, sends them to a target, and acknowledges them only then.

use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::durable::DurableConsumer;
use precis_runtime::topology::TopologyError;
use precis_schemas::topology::RESULTS;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::item::Item;
use super::metrics;
use super::payload::{ItemOutcome, Payload};
use super::source::{Source, SourceItem};
use super::target::Target;
use crate::consumer::{Delivery, InFlight, PullLoop, acknowledge, lag};
use crate::sinks::dead_letters::SinkDeadLetters;

/// How long open requests may take after shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a message waits for its prediction, and then for the target to have or to confirm the prediction. A target
/// that was down has caught up by then.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How long a pull waits for more messages.
const PULL_WAIT: Duration = Duration::from_millis(500);

/// Forwards the messages of one stream to one target.
#[derive(Debug)]
pub(crate) struct Forwarder<T, S> {
    /// Name of the sink in metrics, logs and dead letters.
    pub(crate) sink: &'static str,
    pub(crate) target: T,
    pub(crate) source: S,
    pub(crate) consumer: DurableConsumer,
    pub(crate) dead_letters: SinkDeadLetters,
    /// Share of jobs that is forwarded, 0 to 1, unless a job overrides it.
    pub(crate) sampling_rate: f64,
    /// Most messages in flight.
    pub(crate) max_in_flight: usize,
    /// How long the circuit breaker stays open.
    pub(crate) circuit_open: Duration,
    pub(crate) stop: CancellationToken,
}

impl<T: Target, S: Source> Forwarder<T, S> {
    /// Forwards until shutdown.
    ///
    /// # Errors
    /// When the consumer can't be created at the start. Later failures are retried.
    pub(crate) async fn run(self) -> Result<(), TopologyError> {
        let sink = self.sink;
        metrics::begin(sink);
        // Lag is exported per consumer: a target has one for each stream.
        let reader = self.consumer.spec.name.trim_start_matches("monitor-");
        let lag = lag::watch(&self.consumer, reader, &self.stop).await?;
        let (consumer, stop) = (self.consumer.clone(), self.stop.clone());
        let mut pull = PullLoop::open(consumer, self.max_in_flight, PULL_WAIT, stop).await?;
        let mut breaker = Breaker::new(self.circuit_open);
        tracing::info!(sink, "forwarding");
        while let Some(in_flight) = pull.next().await {
            self.forward(&in_flight, &mut breaker).await;
        }
        lag.abort();
        Ok(())
    }

    /// Sends what was pulled and settles it. Nothing more is pulled meanwhile, so memory is bounded however long the target
    /// is down.
    async fn forward(&self, in_flight: &InFlight, breaker: &mut Breaker) {
        let sink = self.sink;
        let read = self.source.read(in_flight.shared(), self.sampling_rate).await;
        let Some(read) = read else {
            tracing::error!(sink, "messages could not be read; they will be redelivered");
            return;
        };
        let (mut items, mut item_deliveries, mut skipped) = (vec![], vec![], vec![]);
        for (delivery, read) in in_flight.deliveries().iter().zip(read) {
            match read {
                SourceItem::Forward(item) if self.target.wants(&item) => {
                    items.push(*item);
                    item_deliveries.push(delivery);
                }
                SourceItem::NotYet if may_wait(delivery.position.published_at, clock::now(), MAX_WAIT) => {
                    delivery.retry_later().await;
                }
                SourceItem::Forward(_) | SourceItem::Skip | SourceItem::NotYet => skipped.push(delivery),
            }
        }
        metrics::skipped(sink, skipped.len());
        acknowledge(skipped).await;
        tokio::select! {
            () = self.send(&items, &item_deliveries, breaker) => {}
            () = self.drained() => {}
        }
        let mut returned = 0;
        for delivery in in_flight.unsettled() {
            delivery.retry(None).await;
            returned += 1;
        }
        if returned > 0 {
            let _best_effort = self.consumer.queue.client.flush().await;
            tracing::warn!(
                sink,
                messages = returned,
                "stopped before the target confirmed these messages; they will be redelivered"
            );
        }
    }

    async fn send(&self, items: &[Item], deliveries: &[&Delivery], breaker: &mut Breaker) {
        let sink = self.sink;
        let mut payload = Payload::new(sink, items, &self.target);
        let patience = self.patience();
        while !payload.is_done() {
            let (outcomes, delay) = payload.send_round(&self.target, breaker).await;
            let mut done = Vec::with_capacity(outcomes.len());
            for (index, outcome) in outcomes {
                let delivery = deliveries[index];
                let position = delivery.position;
                match outcome {
                    ItemOutcome::Accepted => {
                        metrics::record(sink, true);
                        done.push(delivery);
                    }
                    ItemOutcome::NotYet(reason)
                        if may_still_arrive(position.published_at, &items[index], clock::now(), patience) =>
                    {
                        let sequence = position.sequence;
                        tracing::debug!(
                            sink,
                            sequence,
                            reason,
                            "target does not have or did not confirm the prediction; retrying later"
                        );
                        delivery.retry_later().await;
                    }
                    ItemOutcome::Rejected(reason) | ItemOutcome::NotYet(reason) => {
                        // A record whose dead letter can't be stored comes back, and counts then.
                        if self.dead_letters.store(delivery, reason).await {
                            metrics::record(sink, false);
                            done.push(delivery);
                        }
                    }
                }
            }
            acknowledge(done).await;
            if let Some(delay) = delay {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = self.stop.cancelled() => return,
                }
            }
        }
    }

    /// How long an item is tried. A result goes to `DEAD` before its stream drops it.
    fn patience(&self) -> Duration {
        match self.consumer.spec.stream {
            RESULTS => MAX_WAIT.min(self.consumer.settings.result_ttl() * 3 / 4),
            _ => MAX_WAIT,
        }
    }

    /// Completes when shutdown can't wait for the target any longer.
    async fn drained(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    }
}

fn may_wait(since: Timestamp, now: Timestamp, patience: Duration) -> bool {
    since.duration_until(now).unsigned_abs() < patience
}

/// Whether the target may still receive the prediction of an item whose message was published at `published_at`. The
/// number of attempts does not tell: the message may have waited for its job, too.
fn may_still_arrive(published_at: Timestamp, item: &Item, now: Timestamp, patience: Duration) -> bool {
    may_wait(published_at.max(item.result.finished_at), now, patience)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::row::Scorer;

    #[test]
    fn a_target_has_a_day_from_when_job_and_reference_both_existed() {
        let json = include_str!("../../../../schemas/wire/v1/result.succeeded.json");
        let mut result: precis_schemas::JobResult = serde_json::from_str(json).unwrap();
        let now = clock::now();
        let ago = |hours| now - SignedDuration::from_hours(hours);
        let mut may_still = |published, finished| {
            result.finished_at = ago(finished);
            let item = Item::prediction(result.clone(), None, 0, &Scorer::default());
            may_still_arrive(ago(published), &item, now, MAX_WAIT)
        };
        assert!(may_still(1, 23));
        // The reference waited long for its job.
        assert!(may_still(48, 2));
        assert!(!may_still(25, 30));
    }
}
