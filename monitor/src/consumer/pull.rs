//! The pull loop: deliveries from a durable consumer, with backoff and shutdown.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use futures::StreamExt;
use precis_runtime::backoff::Backoff;
use precis_runtime::durable::DurableConsumer;
use precis_runtime::topology::TopologyError;
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::in_flight::InFlight;

/// Most bytes of one pull, unless the NATS server accepts messages nearly that large.
///
/// Rows are about as large as their messages. For a block over 10 MB ClickHouse writes one file per column, which costs
/// more than the rows.
const MAX_PULL_BYTES: usize = 8 << 20;
/// Delays between attempts to pull.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// Pulls deliveries until shutdown.
pub(crate) struct PullLoop {
    durable: DurableConsumer,
    consumer: PullConsumer,
    max_messages: usize,
    max_wait: Duration,
    stop: CancellationToken,
    backoff: Backoff,
}

impl PullLoop {
    /// Opens the consumer. A pull ends with `max_messages`, or after `max_wait`.
    ///
    /// # Errors
    /// When the consumer can't be created.
    pub(crate) async fn open(
        durable: DurableConsumer,
        max_messages: usize,
        max_wait: Duration,
        stop: CancellationToken,
    ) -> Result<Self, TopologyError> {
        Ok(Self {
            consumer: durable.open().await?,
            durable,
            max_messages,
            max_wait,
            stop,
            backoff: Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY),
        })
    }

    /// Returns the next deliveries, at least one. Waits out failures; returns `None` on shutdown.
    pub(crate) async fn next(&mut self) -> Option<InFlight> {
        while !self.stop.is_cancelled() {
            let (deliveries, error) = self.pull().await;
            if !deliveries.is_empty() {
                self.backoff.reset();
                return Some(InFlight::new(deliveries, self.durable.spec.ack_wait));
            }
            let Some(error) = error else {
                self.backoff.reset();
                continue;
            };
            let stream = self.durable.spec.stream;
            let consumer = self.durable.spec.name.as_str();
            tracing::warn!(stream, consumer, error, "pull failed; retrying");
            if !self.backoff.wait(&self.stop).await {
                return None;
            }
            match self.durable.restore().await {
                Ok(consumer) => self.consumer = consumer,
                Err(error) => tracing::warn!(stream, consumer, %error, "consumer can't be restored"),
            }
        }
        None
    }

    /// Pulls once. Returns the deliveries, and the error that ended the pull early, if any.
    async fn pull(&self) -> (Vec<Delivery>, Option<String>) {
        // Room for two of the largest messages, so that every message fits into a pull.
        let largest = self.durable.queue.client.server_info().max_payload;
        let pull = self
            .consumer
            .batch()
            .max_messages(self.max_messages)
            .max_bytes(MAX_PULL_BYTES.max(2 * largest))
            .expires(self.max_wait);
        let mut batch = match pull.messages().await {
            Ok(batch) => batch,
            Err(error) => return (vec![], Some(error.to_string())),
        };
        let mut deliveries = Vec::new();
        loop {
            let next = tokio::select! {
                () = self.stop.cancelled() => return (deliveries, None),
                next = batch.next() => next,
            };
            match next {
                None => return (deliveries, None),
                Some(Ok(message)) => deliveries.extend(Delivery::new(message)),
                Some(Err(error)) => return (deliveries, Some(error.to_string())),
            }
        }
    }
}
