//! Jobs that were delivered as often as allowed and finished by no worker.
//!
//! JetStream leaves such a message in the work queue and says so once, in an advisory that the stream
//! `ADVISORIES` keeps. The advisory is acknowledged last, so a crash at any point means that it comes again.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, AckKind};
use futures::StreamExt;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config;
use precis_runtime::topology::{self, TopologyError};
use precis_schemas::error_code::Refusal;
use precis_schemas::termination::Termination;
use precis_schemas::topology::{JOBS, dead_letter_consumer};
use precis_schemas::{ErrorCode, Outcome};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::termination::{ReapError, Reaper, failed, is_gone};
use crate::backoff::Backoff;

/// Most advisories in one pull: each takes a few round trips, and all must be done within the ack wait.
const PULL: usize = 32;
/// How long a pull waits for the first advisory.
const PULL_FOR: Duration = Duration::from_secs(2);
/// After how long an advisory that could not be dealt with comes again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What JetStream says of a message that was delivered too often.
#[derive(Debug, Deserialize)]
struct Advisory {
    stream: String,
    stream_seq: u64,
    deliveries: u64,
}

/// Deals with advisories until `stop`.
///
/// # Errors
/// When the consumer can't be set up at the start. Later troubles are waited out.
pub(crate) async fn run(
    reaper: Reaper,
    queue: NatsConnection,
    nats: config::NatsConfig,
    stop: CancellationToken,
) -> Result<(), TopologyError> {
    let spec = dead_letter_consumer();
    let set_up = || topology::consumer(&queue.jetstream, &spec, nats.replicas, nats.manage_topology);
    let mut consumer = set_up().await?;
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        match pull(&reaper, &consumer, &stop).await {
            Ok(()) => backoff.reset(),
            Err(error) => {
                tracing::warn!(%error, "advisories can't be pulled; trying again");
                if backoff.wait_or_stop(&stop).await {
                    break;
                }
                match set_up().await {
                    Ok(again) => consumer = again,
                    Err(error) => tracing::warn!(%error, "the consumer of advisories can't be set up"),
                }
            }
        }
    }
    Ok(())
}

async fn pull(
    reaper: &Reaper,
    consumer: &PullConsumer,
    stop: &CancellationToken,
) -> Result<(), async_nats::Error> {
    let mut batch = consumer
        .batch()
        .max_messages(PULL)
        .expires(PULL_FOR)
        .messages()
        .await?;
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            next = batch.next() => next,
        };
        match next {
            None => return Ok(()),
            Some(message) => settle(reaper, message?).await,
        }
    }
}

async fn settle(reaper: &Reaper, message: jetstream::Message) {
    let advisory = match serde_json::from_slice::<Advisory>(&message.payload) {
        Ok(advisory) if advisory.stream == JOBS => Some(advisory),
        Ok(other) => {
            tracing::warn!(stream = other.stream, "an advisory about another stream");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "an advisory that can't be read");
            None
        }
    };
    let ended = match &advisory {
        Some(advisory) => end(reaper, advisory).await,
        None => Ok(()),
    };
    let acknowledged = match ended {
        Ok(()) => message.double_ack().await,
        Err(error) => {
            let sequence = advisory.map_or(0, |advisory| advisory.stream_seq);
            tracing::warn!(%error, sequence, "a job that died can't be ended now; trying again");
            message.ack_with(AckKind::Nak(Some(RETRY_AFTER))).await
        }
    };
    if let Err(error) = acknowledged {
        tracing::warn!(%error, "an advisory was not acknowledged and will come again");
    }
}

async fn end(reaper: &Reaper, advisory: &Advisory) -> Result<(), ReapError> {
    // From the leader, not by direct get: a replica that lags would say that the job is gone.
    let message = match reaper.jobs.get_raw_message(advisory.stream_seq).await {
        Ok(message) => message,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(failed("read a job")(error)),
    };
    reaper.end(&message, &termination(advisory.deliveries)).await
}

fn termination(deliveries: u64) -> Termination {
    let message = format!("delivered {deliveries} times, finished by no worker");
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
    fn an_advisory_of_the_server_is_read() {
        let body = r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"x","timestamp":"2026-11-23T13:00:00Z",
            "stream":"JOBS","consumer":"worker-default-normal","stream_seq":12,"deliveries":5}"#;
        let advisory: Advisory = serde_json::from_str(body).unwrap();
        assert_eq!((advisory.stream.as_str(), advisory.stream_seq), (JOBS, 12));
        let termination = termination(advisory.deliveries);
        assert_eq!(
            termination.reason.message,
            "delivered 5 times, finished by no worker"
        );
        assert_eq!(termination.attempts, 5);
    }
}
