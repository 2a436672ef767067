//! Which receivers the configuration names, each with a sink of its own. One that is not named costs nothing.

use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use precis_runtime::Config;
use precis_runtime::boot::Queue;
use precis_runtime::topology::TopologyError;
use precis_schemas::topology::forward_consumer;
use tokio_util::sync::CancellationToken;

use super::arize::{records::Records, traces::Traces};
use super::forward::parcel::Target;
use super::forward::source::Predictions;
use super::forward::{Forwarder, http};
use super::intake::Intake;
use super::phoenix::Phoenix;

type Running = Pin<Box<dyn Future<Output = Result<(), TopologyError>> + Send>>;

/// Forwards to every receiver that is configured, until it is told to stop.
///
/// # Errors
/// When a client can't be set up; later when a consumer can't.
pub(crate) fn forward_all(
    config: &Config,
    queue: &Queue,
    stop: &CancellationToken,
) -> anyhow::Result<impl Future<Output = Result<(), TopologyError>>> {
    let (arize, phoenix) = (&config.arize, &config.phoenix);
    let mut sinks: Vec<Running> = Vec::new();
    if let Some((key, space)) = arize.credentials() {
        let client =
            http::client(Duration::from_secs(arize.timeout_seconds)).context("a client for Arize")?;
        let rest = Duration::from_secs(arize.circuit_open_seconds);
        let most = Most::of(arize.max_batch);
        if arize.send.has_traces() {
            let target = Traces::new(client.clone(), arize, key, space);
            sinks.push(sink(target, arize.sampling_rate, most, rest, config, queue, stop));
        }
        if arize.send.has_records() {
            let target = Records::new(client, arize, key, space);
            sinks.push(sink(target, arize.sampling_rate, most, rest, config, queue, stop));
        }
    }
    if let Some(url) = &phoenix.url {
        let client =
            http::client(Duration::from_secs(phoenix.timeout_seconds)).context("a client for Phoenix")?;
        let rest = Duration::from_secs(phoenix.circuit_open_seconds);
        let most = Most::of(phoenix.max_batch);
        let target = Phoenix::new(client, phoenix, url.expose());
        sinks.push(sink(
            target,
            phoenix.sampling_rate,
            most,
            rest,
            config,
            queue,
            stop,
        ));
    }
    Ok(async move { try_join_all(sinks).await.map(|_| ()) })
}

/// Most messages that a sink has in hand: a few requests' worth.
#[derive(Debug, Clone, Copy)]
struct Most(usize);

impl Most {
    fn of(max_batch: usize) -> Self {
        Self((4 * max_batch).min(1_000))
    }
}

fn sink<T: Target + 'static>(
    target: T,
    sampling_rate: f64,
    Most(most): Most,
    rest: Duration,
    config: &Config,
    queue: &Queue,
    stop: &CancellationToken,
) -> Running {
    let intake = Intake {
        queue: queue.clone(),
        nats: config.nats.clone(),
        spec: forward_consumer(target.name()),
    };
    let forwarder = Forwarder {
        target,
        source: Predictions,
        intake,
        sampling_rate,
        most,
        rest,
        stop: stop.clone(),
    };
    Box::pin(forwarder.run())
}
