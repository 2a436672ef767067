//! One delivery of a message, and how to settle it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, AckKind};

use super::position::{StreamPosition, timestamp};

/// Delay before the second attempt at a delivery that waits for something. It grows with every attempt.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(2);
/// Longest delay between two such attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

/// A delivered message. It is settled once it was acknowledged or handed back.
pub(crate) struct Delivery {
    pub(crate) message: jetstream::Message,
    pub(crate) position: StreamPosition,
    /// Number of this delivery, starting at 1.
    pub(crate) attempt: u64,
    settled: AtomicBool,
}

impl Delivery {
    /// Returns `None` if the message did not come from a stream, which a pull consumer rules out.
    pub(super) fn new(message: jetstream::Message) -> Option<Self> {
        let info = message.info().ok()?;
        let position = StreamPosition {
            sequence: info.stream_sequence,
            published_at: timestamp(info.published),
        };
        let attempt = u64::try_from(info.delivered).unwrap_or_default();
        Some(Self {
            message,
            position,
            attempt,
            settled: AtomicBool::new(false),
        })
    }

    /// Hands the delivery back. JetStream redelivers the message after `delay`, or at once.
    pub(crate) async fn retry(&self, delay: Option<Duration>) {
        self.settle();
        // If this is lost, JetStream redelivers the message after the ack wait.
        let _best_effort = self.message.ack_with(AckKind::Nak(delay)).await;
    }

    /// Hands the delivery back with a delay that grows with every attempt, up to five minutes.
    pub(crate) async fn retry_later(&self) {
        self.retry(Some(retry_delay(self.attempt))).await;
    }

    /// Restarts the ack wait, unless the delivery is settled.
    pub(super) async fn keep_alive(&self) {
        if !self.is_settled() {
            // If this is lost, JetStream may redeliver the message early, which is harmless.
            let _best_effort = self.message.ack_with(AckKind::Progress).await;
        }
    }

    /// Whether the delivery was acknowledged or handed back.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }
}

/// Acknowledges deliveries.
///
/// Only the last acknowledgement is confirmed by the server, which processes those of one connection in order. A lost one
/// costs a redelivery. Returns whether none was lost.
pub(crate) async fn acknowledge(deliveries: impl IntoIterator<Item = &Delivery>) -> bool {
    let mut are_confirmed = true;
    let mut deliveries = deliveries.into_iter().peekable();
    while let Some(delivery) = deliveries.next() {
        delivery.settle();
        let outcome = if deliveries.peek().is_some() {
            delivery.message.ack().await
        } else {
            delivery.message.double_ack().await
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "acknowledgement lost; the message will be redelivered");
            are_confirmed = false;
        }
    }
    are_confirmed
}

fn retry_delay(attempt: u64) -> Duration {
    let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
    FIRST_RETRY_DELAY.saturating_mul(attempt).min(MAX_RETRY_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_delays_grow_to_five_minutes() {
        let delays = [1, 2, 149, 150, u64::MAX].map(|attempt| retry_delay(attempt).as_secs());
        assert_eq!(delays, [2, 4, 298, 300, 300]);
    }
}
