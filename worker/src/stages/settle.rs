//! Stage 10: settles the delivery. The job leaves the queue only after its result is stored.

use std::time::Duration;

use precis_runtime::backoff::Backoff;
use precis_schemas::dead::DeadLetter;
use precis_schemas::{JobResult, time};

use super::fetch::PULL_WAIT;
use super::publish_result::{NotStored, Publisher};
use crate::delivery::Delivery;
use crate::hand_backs::HandBacks;
use crate::lease::Lease;
use crate::settlement::Settlement;
use crate::trace::JobSpan;

/// Delay before a handed-back job is delivered again. This worker's last pulls have ended by then, and don't get it.
const HAND_BACK_DELAY: Duration = PULL_WAIT;
/// Shortest and longest delay before a failed job is delivered again.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Returns the delay before the next delivery: 1, 2, 4, … seconds, up to [`MAX_RETRY_DELAY`].
fn retry_delay(attempt: u64) -> Duration {
    Backoff::nth(MIN_RETRY_DELAY, MAX_RETRY_DELAY, attempt)
}

/// Stores what the settlement has to store, and then acknowledges, retries or hands back the delivery.
pub async fn settle(
    settlement: Settlement,
    delivery: &Delivery,
    lease: Lease,
    publisher: &Publisher,
    hand_backs: &HandBacks,
) {
    match settlement {
        Settlement::HandBack => hand_backs.hand_back(delivery, lease, HAND_BACK_DELAY).await,
        Settlement::Retry(reason) => {
            JobSpan::start(delivery).handed_back(&reason.message);
            tracing::warn!(attempt = delivery.attempt, %reason, "job failed; retrying");
            lease.hand_back(retry_delay(delivery.counted_attempt())).await;
        }
        Settlement::Finish { result, dead_letter } => {
            let stored = store(
                result.as_deref(),
                dead_letter.map(|letter| *letter),
                delivery,
                publisher,
            );
            match stored.await {
                Ok(()) => acknowledge(delivery, lease).await,
                Err(NotStored) => lease.hand_back(retry_delay(delivery.counted_attempt())).await,
            }
        }
    }
}

/// Takes a job off the queue whose result is stored.
pub async fn acknowledge(delivery: &Delivery, lease: Lease) {
    if let Err(error) = lease.acknowledge().await {
        tracing::warn!(sequence = delivery.sequence, %error, "job not acknowledged; it is delivered again");
    }
}

async fn store(
    result: Option<&JobResult>,
    dead_letter: Option<DeadLetter>,
    delivery: &Delivery,
    publisher: &Publisher,
) -> Result<(), NotStored> {
    let mut span = JobSpan::start(delivery);
    if let Some(result) = result {
        span.describe(result);
        let publish = span.start_publish();
        publisher
            .result(result, span.context_for(publish.as_ref()))
            .await?;
    }
    if let Some(letter) = dead_letter {
        tracing::warn!(sequence = delivery.sequence, reason = %letter.reason, "storing a dead letter");
        publisher.dead_letter(letter).await?;
    }
    if let Some(result) = result {
        tracing::info!(
            outcome = %result.outcome,
            attempt = delivery.attempt,
            batch = result.sizes.batch_size,
            total_ms = time::millis_between(result.submitted_at, result.finished_at),
            "job done"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retry_delay_doubles_up_to_its_maximum() {
        let seconds: Vec<u64> = (1..=8).map(|attempt| retry_delay(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
