//! What both sinks for ClickHouse need: the queue, the table, settings and shutdown.

use std::fmt::Display;
use std::time::Duration;

use precis_runtime::admin::Readiness;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::MonitorConfig;
use precis_runtime::durable::{DurableConsumer, TopologySettings};
use precis_runtime::texts::Texts;
use precis_runtime::topology::TopologyError;
use precis_schemas::JobResult;
use precis_schemas::topology::ConsumerSpec;
use tokio_util::sync::CancellationToken;

use super::table::PredictionTable;
use crate::consumer::PullLoop;
use crate::database::backoff;
use crate::metrics;

/// Shortest time that a pull stays open, so that an idle monitor with a tiny `max_block_wait_ms` does not poll all the time.
const MIN_PULL_WAIT: Duration = Duration::from_millis(20);

/// Dependencies of the sinks for ClickHouse.
#[derive(Debug, Clone)]
pub(crate) struct SinkContext {
    pub(crate) queue: NatsConnection,
    pub(crate) topology: TopologySettings,
    pub(crate) settings: MonitorConfig,
    pub(crate) table: PredictionTable,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
}

impl SinkContext {
    /// Returns the consumer that `spec` describes, with the configured ack wait.
    pub(super) fn consumer(&self, spec: ConsumerSpec) -> DurableConsumer {
        DurableConsumer {
            queue: self.queue.clone(),
            settings: self.topology.clone(),
            spec: ConsumerSpec {
                ack_wait: Duration::from_secs(self.settings.ack_wait_seconds),
                ..spec
            },
        }
    }

    /// Opens a consumer that pulls up to `max_messages` at a time.
    ///
    /// # Errors
    /// When the consumer can't be created.
    pub(super) async fn pull(
        &self,
        consumer: DurableConsumer,
        max_messages: usize,
    ) -> Result<PullLoop, TopologyError> {
        let max_ack_pending = usize::try_from(consumer.spec.max_ack_pending).unwrap_or(usize::MAX);
        let max_wait = Duration::from_millis(self.settings.max_block_wait_ms).max(MIN_PULL_WAIT);
        let max_messages = max_messages.min(max_ack_pending);
        PullLoop::open(consumer, max_messages, max_wait, self.stop.clone()).await
    }

    /// Adds their texts to results. Texts that are no longer kept stay empty. Returns `None` on shutdown.
    pub(super) async fn attach_texts(
        &self,
        sink: &'static str,
        results: &mut [Result<JobResult, String>],
    ) -> Option<()> {
        if !results.iter().flatten().any(|result| result.text_in_stream) {
            return Some(());
        }
        let mut backoff = backoff();
        loop {
            let attached = async {
                let texts = Texts::open(&self.queue.jetstream).await?;
                texts.attach(results.iter_mut().flatten()).await
            };
            match attached.await {
                Ok(missing) => {
                    metrics::texts_missing(sink, missing);
                    return Some(());
                }
                Err(error) => {
                    metrics::retry();
                    tracing::warn!(%error, "texts of results not read; retrying");
                    if !backoff.wait(&self.stop).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Repeats `attempt` until it succeeds. Returns `None` on shutdown.
    pub(super) async fn retry<T, E, F>(&self, failure: &'static str, attempt: impl Fn() -> F) -> Option<T>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut backoff = backoff();
        loop {
            match attempt().await {
                Ok(value) => return Some(value),
                Err(error) => {
                    metrics::retry();
                    tracing::warn!(%error, "{failure}; retrying");
                    if !backoff.wait(&self.stop).await {
                        return None;
                    }
                }
            }
        }
    }
}
