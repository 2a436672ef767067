//! Settles deliveries once their rows are stored or rejected.

use crate::consumer::{Delivery, acknowledge};
use crate::metrics;
use crate::sinks::dead_letters::SinkDeadLetters;

/// What happens to a delivery.
pub(super) enum DeliveryOutcome {
    /// Its row is stored, or it needs none.
    Done,
    /// Its prediction is not stored yet.
    Wait,
    /// It can't become a row, for this reason.
    DeadLetter(String),
}

/// Acknowledges, hands back or dead-letters each delivery. Returns the indices of those that will not come back.
pub(super) async fn settle(
    deliveries: &[Delivery],
    outcomes: Vec<DeliveryOutcome>,
    dead_letters: &SinkDeadLetters,
) -> Vec<usize> {
    let mut done = Vec::with_capacity(deliveries.len());
    for (index, (delivery, outcome)) in deliveries.iter().zip(outcomes).enumerate() {
        match outcome {
            DeliveryOutcome::Done => done.push(index),
            DeliveryOutcome::Wait => delivery.retry_later().await,
            DeliveryOutcome::DeadLetter(reason) => {
                if dead_letters.store(delivery, reason).await {
                    metrics::rejected();
                    done.push(index);
                }
            }
        }
    }
    let are_confirmed = acknowledge(done.iter().map(|index| &deliveries[*index])).await;
    if are_confirmed { done } else { Vec::new() }
}
