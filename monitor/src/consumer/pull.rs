//! Blocks of messages for the sinks of ClickHouse, one after another, and what is told to JetStream about them while they
//! are in hand.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config;
use precis_runtime::topology::TopologyError;
use precis_schemas::topology::ConsumerSpec;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::delivery::{Delivered, Intake};
use crate::backoff::Backoff;
use crate::metrics;

/// Shortest time that a pull stays open, whatever the configuration says: else an idle monitor is busy asking.
const SHORTEST_PULL: Duration = Duration::from_millis(20);

/// Messages that are in hand: while this lives, JetStream is told every so often that they are, so that it doesn't
/// deliver them again.
pub(crate) struct InHand {
    messages: Arc<Vec<Delivered>>,
    holder: AbortHandle,
}

impl InHand {
    fn new(messages: Vec<Delivered>, ack_wait: Duration) -> Self {
        let messages = Arc::new(messages);
        let held = Arc::clone(&messages);
        let holder = tokio::spawn(async move { hold(&held, ack_wait / 4).await }).abort_handle();
        Self { messages, holder }
    }

    /// The messages.
    pub(crate) fn messages(&self) -> &[Delivered] {
        &self.messages
    }

    /// The messages, for work on another thread.
    pub(crate) fn shared(&self) -> Arc<Vec<Delivered>> {
        Arc::clone(&self.messages)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.holder.abort();
    }
}

async fn hold(messages: &[Delivered], every: Duration) -> Infallible {
    loop {
        tokio::time::sleep(every).await;
        for one in messages {
            one.hold().await;
        }
    }
}

/// The consumer of this description, as the sinks of ClickHouse read it.
pub(crate) fn intake_of(
    queue: NatsConnection,
    nats: config::NatsConfig,
    settings: &config::MonitorConfig,
    spec: ConsumerSpec,
) -> Intake {
    let spec = ConsumerSpec {
        ack_wait: Duration::from_secs(settings.ack_wait_seconds),
        ..spec
    };
    Intake {
        queue,
        nats,
        spec,
        texts: settings.texts,
    }
}

/// Reads one stream in blocks.
pub(crate) struct Blocks {
    intake: Intake,
    consumer: PullConsumer,
    max_messages: usize,
    max_wait: Duration,
    stop: CancellationToken,
    backoff: Backoff,
}

impl Blocks {
    /// Sets up the consumer.
    ///
    /// # Errors
    /// When that can't be done. Later troubles are waited out.
    pub(crate) async fn open(
        queue: NatsConnection,
        nats: config::NatsConfig,
        settings: &config::MonitorConfig,
        spec: ConsumerSpec,
        stop: CancellationToken,
    ) -> Result<Self, TopologyError> {
        let intake = intake_of(queue, nats, settings, spec);
        let most = usize::try_from(intake.spec.max_ack_pending).unwrap_or(usize::MAX);
        Ok(Self {
            consumer: intake.consumer().await?,
            intake,
            max_messages: settings.max_block_rows.min(most),
            max_wait: Duration::from_millis(settings.max_block_wait_ms).max(SHORTEST_PULL),
            stop,
            backoff: Backoff::default(),
        })
    }

    /// What the blocks come from.
    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The next block, at least one message; none when it is time to stop.
    pub(crate) async fn next(&mut self) -> Option<InHand> {
        while !self.stop.is_cancelled() {
            let pull = self
                .intake
                .pull(&self.consumer, self.max_messages, self.max_wait, &self.stop);
            let (messages, trouble) = pull.await;
            if !messages.is_empty() {
                self.backoff.reset();
                return Some(InHand::new(messages, self.intake.spec.ack_wait));
            }
            let Some(trouble) = trouble else {
                self.backoff.reset();
                continue;
            };
            let stream = self.intake.spec.stream;
            tracing::warn!(stream, error = trouble, "messages can't be pulled; trying again");
            if self.backoff.wait_or_stop(&self.stop).await {
                return None;
            }
            // The consumer may be gone, with its stream or because somebody has deleted it.
            match self.intake.consumer().await {
                Ok(again) => self.consumer = again,
                Err(error) => tracing::warn!(%error, "the consumer can't be set up"),
            }
        }
        None
    }
}

/// Puts a message that becomes no row into `DEAD`; false when that failed and it will come again.
pub(crate) async fn bury(intake: &Intake, sink: &str, one: &Delivered, reason: String) -> bool {
    let buried = intake.bury(sink, one, reason).await;
    if buried {
        metrics::refused();
    }
    buried
}
