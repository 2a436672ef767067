//! Which receivers the configuration names, each with a sink of its own. One that is not named costs nothing.

use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use precis_runtime::Config;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::{self, NatsConfig, TextPolicy};
use precis_runtime::topology::TopologyError;
use precis_schemas::topology::{ConsumerSpec, forward_consumer, forward_references_consumer};
use tokio_util::sync::CancellationToken;

use super::arize::{records::Records, traces::Traces};
use super::forward::late::{OfReferences, References};
use super::forward::payload::Target;
use super::forward::source::{Predictions, Source};
use super::forward::{Forwarder, http};
use super::phoenix::Phoenix;
use crate::consumer::Intake;

type Running = Pin<Box<dyn Future<Output = Result<(), TopologyError>> + Send>>;

/// Forwards to every receiver that is configured, until it is told to stop.
///
/// # Errors
/// When a client can't be set up; later when a consumer can't.
pub(crate) fn forward_all(
    config: &Config,
    queue: &NatsConnection,
    stop: &CancellationToken,
) -> anyhow::Result<impl Future<Output = Result<(), TopologyError>>> {
    let (arize, phoenix) = (&config.arize, &config.phoenix);
    let mut sinks: Vec<Running> = Vec::new();
    if let Some((key, space)) = arize.credentials() {
        let client =
            http::client(Duration::from_secs(arize.timeout_seconds)).context("a client for Arize")?;
        let receiver = Receiver {
            sampling_rate: arize.sampling_rate,
            max_batch: arize.max_batch,
            rest: Duration::from_secs(arize.circuit_open_seconds),
            nats: &config.nats,
            texts: config.monitor.texts,
            queue,
            stop,
        };
        let arize = &config::ArizeConfig {
            texts: Some(sends_texts(arize.texts, config.monitor.texts)),
            ..arize.clone()
        };
        if arize.send.has_traces() {
            let target = || Traces::new(client.clone(), arize, key, space);
            sinks.extend(receiver.sinks(target, "arize-traces-references"));
        }
        if arize.send.has_records() {
            let target = || Records::new(client.clone(), arize, key, space);
            sinks.extend(receiver.sinks(target, "arize-records-references"));
        }
    }
    if let Some(url) = &phoenix.url {
        let client =
            http::client(Duration::from_secs(phoenix.timeout_seconds)).context("a client for Phoenix")?;
        let receiver = Receiver {
            sampling_rate: phoenix.sampling_rate,
            max_batch: phoenix.max_batch,
            rest: Duration::from_secs(phoenix.circuit_open_seconds),
            nats: &config.nats,
            texts: config.monitor.texts,
            queue,
            stop,
        };
        let phoenix = &config::PhoenixConfig {
            texts: Some(sends_texts(phoenix.texts, config.monitor.texts)),
            ..phoenix.clone()
        };
        let target = || Phoenix::new(client.clone(), phoenix, url.expose());
        sinks.extend(receiver.sinks(target, "phoenix-references"));
    }
    Ok(async move { try_join_all(sinks).await.map(|_| ()) })
}

/// Whether texts are sent: as the receiver's section says, else only where all of them are kept here, too.
fn sends_texts(given: Option<bool>, policy: TextPolicy) -> bool {
    given.unwrap_or(policy == TextPolicy::Full)
}

/// How a receiver is served.
struct Receiver<'a> {
    sampling_rate: f64,
    max_batch: usize,
    rest: Duration,
    nats: &'a NatsConfig,
    texts: TextPolicy,
    queue: &'a NatsConnection,
    stop: &'a CancellationToken,
}

impl Receiver<'_> {
    /// Two sinks: one for predictions, and one of this name for references that come later.
    fn sinks<T: Target + 'static>(&self, target: impl Fn() -> T, late: &'static str) -> [Running; 2] {
        let (predictions, references) = (target(), target());
        let (spec, late_spec) = (
            forward_consumer(predictions.name()),
            forward_references_consumer(references.name()),
        );
        let jetstream = self.queue.jetstream.clone();
        let vectors = self.texts != TextPolicy::None;
        let references = OfReferences {
            target: references,
            name: late,
        };
        [
            self.sink(predictions, Predictions { vectors }, spec),
            self.sink(references, References { jetstream }, late_spec),
        ]
    }

    fn sink<T: Target + 'static, S: Source + 'static>(
        &self,
        target: T,
        source: S,
        spec: ConsumerSpec,
    ) -> Running {
        let intake = Intake {
            queue: self.queue.clone(),
            nats: self.nats.clone(),
            spec,
            texts: self.texts,
        };
        let forwarder = Forwarder {
            target,
            source,
            intake,
            sampling_rate: self.sampling_rate,
            // A few requests' worth.
            most: (4 * self.max_batch).min(1_000),
            rest: self.rest,
            stop: self.stop.clone(),
        };
        Box::pin(forwarder.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_not_kept_are_not_sent_unless_that_is_asked_for() {
        assert!(sends_texts(None, TextPolicy::Full));
        for policy in [TextPolicy::Truncated, TextPolicy::Hash, TextPolicy::None] {
            assert!(!sends_texts(None, policy), "{policy:?}");
            assert!(sends_texts(Some(true), policy));
        }
        assert!(!sends_texts(Some(false), TextPolicy::Full));
    }
}
