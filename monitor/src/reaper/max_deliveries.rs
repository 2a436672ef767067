//! Terminates jobs that used up their deliveries without a result.
//!
//! JetStream leaves such a message in the work queue and publishes one advisory, which the stream `ADVISORIES` stores.
//! The advisory is acknowledged last, so after a crash it is redelivered. The module `stranded` finds jobs whose advisory
//! was lost.

use std::time::Duration;

use precis_runtime::boot::NatsConnection;
use precis_runtime::durable::{DurableConsumer, TopologySettings};
use precis_runtime::nats::is_missing;
use precis_runtime::topology::TopologyError;
use precis_schemas::error_code::Refusal;
use precis_schemas::termination::Termination;
use precis_schemas::topology::{JOBS, dead_letter_consumer};
use precis_schemas::{ErrorCode, Outcome};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::termination::{ReapError, Reaper, jetstream_error};
use crate::consumer::{Delivery, PullLoop, acknowledge};

/// Advisories in one pull. A larger pull would wait for more advisories before it returns the first.
const MAX_ADVISORIES: usize = 1;
/// How long a pull waits for an advisory.
const PULL_WAIT: Duration = Duration::from_secs(2);
/// Delay before redelivery of an advisory whose job could not be terminated.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// JetStream's advisory that a message reached its maximum number of deliveries.
#[derive(Debug, Deserialize)]
struct Advisory {
    stream: String,
    stream_seq: u64,
    deliveries: u64,
}

/// Handles advisories until shutdown.
///
/// # Errors
/// When the consumer can't be created at the start. Later failures are retried.
pub(crate) async fn run(
    reaper: Reaper,
    queue: NatsConnection,
    settings: TopologySettings,
    stop: CancellationToken,
) -> Result<(), TopologyError> {
    let consumer = DurableConsumer {
        queue,
        settings,
        spec: dead_letter_consumer(),
    };
    let mut pull = PullLoop::open(consumer, MAX_ADVISORIES, PULL_WAIT, stop).await?;
    while let Some(in_flight) = pull.next().await {
        for delivery in in_flight.deliveries() {
            settle(&reaper, delivery).await;
        }
    }
    Ok(())
}

async fn settle(reaper: &Reaper, delivery: &Delivery) {
    let advisory = match serde_json::from_slice::<Advisory>(&delivery.message.payload) {
        Ok(advisory) if advisory.stream == JOBS => advisory,
        Ok(other) => {
            tracing::warn!(stream = other.stream, "ignoring an advisory about another stream");
            acknowledge([delivery]).await;
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "ignoring an unreadable advisory");
            acknowledge([delivery]).await;
            return;
        }
    };
    match terminate(reaper, &advisory).await {
        Ok(()) => {
            acknowledge([delivery]).await;
        }
        Err(error) => {
            tracing::warn!(%error, sequence = advisory.stream_seq, "job not terminated; retrying");
            delivery.retry(Some(RETRY_DELAY)).await;
        }
    }
}

async fn terminate(reaper: &Reaper, advisory: &Advisory) -> Result<(), ReapError> {
    // Read from the leader. A direct get may reach a lagging replica, which would report the job as gone.
    let message = match reaper.jobs.get_raw_message(advisory.stream_seq).await {
        Ok(message) => message,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(jetstream_error("read a job")(error)),
    };
    reaper
        .terminate(&message, &termination(advisory.deliveries))
        .await
}

/// Returns how a job ends after that many deliveries.
pub(super) fn termination(deliveries: u64) -> Termination {
    let message = format!("the job was delivered {deliveries} times, and no worker finished it");
    Termination {
        outcome: Outcome::Failed,
        reason: Refusal::new(ErrorCode::TooManyAttempts, message),
        attempts: deliveries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_advisory_becomes_a_termination() {
        let body = r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"x","timestamp":"2026-11-23T13:00:00Z",
            "stream":"JOBS","consumer":"worker~default~normal~public","stream_seq":12,"deliveries":5}"#;
        let advisory: Advisory = serde_json::from_str(body).unwrap();
        assert_eq!((advisory.stream.as_str(), advisory.stream_seq), (JOBS, 12));
        let termination = termination(advisory.deliveries);
        assert_eq!(
            termination.reason.message,
            "the job was delivered 5 times, and no worker finished it"
        );
        assert_eq!(termination.attempts, 5);
    }
}
