//! Starts a forwarder for each configured target. A target that is not configured costs nothing.

use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use precis_runtime::Config;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::{self, TextPolicy};
use precis_runtime::durable::DurableConsumer;
use precis_runtime::topology::TopologyError;
use precis_schemas::topology::{ConsumerSpec, forward_consumer, forward_references_consumer};
use tokio_util::sync::CancellationToken;

use super::arize::{records::Records, traces::Traces};
use super::dead_letters::SinkDeadLetters;
use super::forward::late::LateReferences;
use super::forward::source::{Predictions, Source};
use super::forward::target::Target;
use super::forward::{Forwarder, http};
use super::phoenix::Phoenix;

type RunningForwarder = Pin<Box<dyn Future<Output = Result<(), TopologyError>> + Send>>;

/// Forwards to every configured target until shutdown.
///
/// # Errors
/// When an HTTP client can't be created; later, when a consumer can't.
pub(crate) fn forward_all(
    config: &Config,
    queue: &NatsConnection,
    stop: &CancellationToken,
) -> anyhow::Result<impl Future<Output = Result<(), TopologyError>>> {
    let (arize, phoenix) = (&config.arize, &config.phoenix);
    let mut forwarders: Vec<RunningForwarder> = Vec::new();
    if let Some((key, space)) = arize.credentials() {
        let client =
            http::client(Duration::from_secs(arize.timeout_seconds)).context("HTTP client for Arize")?;
        let settings = ForwardSettings {
            sampling_rate: arize.sampling_rate,
            max_batch: arize.max_batch,
            circuit_open: Duration::from_secs(arize.circuit_open_seconds),
            config,
            queue,
            stop,
        };
        let arize = &config::ArizeConfig {
            texts: Some(sends_texts(arize.texts, config.monitor.texts)),
            ..arize.clone()
        };
        if arize.send.has_traces() {
            let target = || Traces::new(client.clone(), arize, key, space);
            forwarders.extend(settings.forwarders(target, "arize-traces", "arize-traces-references"));
        }
        if arize.send.has_records() {
            let target = || Records::new(client.clone(), arize, key, space);
            forwarders.extend(settings.forwarders(target, "arize-records", "arize-records-references"));
        }
    }
    if let Some(url) = &phoenix.url {
        let client =
            http::client(Duration::from_secs(phoenix.timeout_seconds)).context("HTTP client for Phoenix")?;
        let settings = ForwardSettings {
            sampling_rate: phoenix.sampling_rate,
            max_batch: phoenix.max_batch,
            circuit_open: Duration::from_secs(phoenix.circuit_open_seconds),
            config,
            queue,
            stop,
        };
        let phoenix = &config::PhoenixConfig {
            texts: Some(sends_texts(phoenix.texts, config.monitor.texts)),
            ..phoenix.clone()
        };
        let target = || Phoenix::new(client.clone(), phoenix, url.expose());
        forwarders.extend(settings.forwarders(target, "phoenix", "phoenix-references"));
    }
    Ok(async move { try_join_all(forwarders).await.map(|_| ()) })
}

/// Whether texts are sent: as the target's section says, else only if `monitor.texts` keeps them in full.
fn sends_texts(configured: Option<bool>, policy: TextPolicy) -> bool {
    configured.unwrap_or(policy == TextPolicy::Full)
}

/// Settings of a target's forwarders.
struct ForwardSettings<'a> {
    sampling_rate: f64,
    max_batch: usize,
    circuit_open: Duration,
    config: &'a Config,
    queue: &'a NatsConnection,
    stop: &'a CancellationToken,
}

impl ForwardSettings<'_> {
    /// Returns two forwarders: `sink` for predictions, and `late_sink` for late references.
    fn forwarders<T: Target + 'static>(
        &self,
        target: impl Fn() -> T,
        sink: &'static str,
        late_sink: &'static str,
    ) -> [RunningForwarder; 2] {
        let predictions = Predictions {
            sink,
            jetstream: self.queue.jetstream.clone(),
            embeddings: self.config.monitor.texts != TextPolicy::None,
        };
        let references = LateReferences {
            jetstream: self.queue.jetstream.clone(),
        };
        [
            self.forwarder(sink, target(), predictions, forward_consumer(sink)),
            self.forwarder(late_sink, target(), references, forward_references_consumer(sink)),
        ]
    }

    fn forwarder<T: Target + 'static, S: Source + 'static>(
        &self,
        sink: &'static str,
        target: T,
        source: S,
        spec: ConsumerSpec,
    ) -> RunningForwarder {
        let consumer = DurableConsumer {
            queue: self.queue.clone(),
            settings: self.config.into(),
            spec,
        };
        let forwarder = Forwarder {
            sink,
            target,
            source,
            dead_letters: SinkDeadLetters::new(&consumer, sink, self.config.monitor.texts),
            consumer,
            sampling_rate: self.sampling_rate,
            // Enough for four requests.
            max_in_flight: (4 * self.max_batch).min(1_000),
            circuit_open: self.circuit_open,
            stop: self.stop.clone(),
        };
        Box::pin(forwarder.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_not_kept_are_sent_only_if_configured() {
        assert!(sends_texts(None, TextPolicy::Full));
        for policy in [TextPolicy::Truncated, TextPolicy::Hash, TextPolicy::None] {
            assert!(!sends_texts(None, policy), "{policy:?}");
            assert!(sends_texts(Some(true), policy));
        }
        assert!(!sends_texts(Some(false), TextPolicy::Full));
    }
}
