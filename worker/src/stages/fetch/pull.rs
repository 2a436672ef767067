//! Runs one pull.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use precis_runtime::backoff::Backoff;
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::time;
use precis_schemas::worker_consumers::TenantLane;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::queue::JobQueue;
use super::scheduler::{PullEnd, PullOrder};
use crate::delivery::{Delivery, Fetched};
use crate::lease::{Acker, Leases};
use crate::metrics;

/// How long a pull waits for new jobs.
pub(in crate::stages) const PULL_WAIT: Duration = Duration::from_secs(1);
/// Delays after failed pulls. While a cluster elects a leader, pulls fail at once.
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(3);

/// What a pull reports.
pub(super) enum Event {
    /// A message arrived; `pending` more wait in the queue.
    Message {
        key: TenantLane,
        job: Box<Fetched>,
        pending: u64,
    },
    /// The pull ended before it delivered its maximum.
    Ended { key: TenantLane, end: PullEnd },
}

/// What pulls need.
pub(super) struct PullContext {
    pub(super) queue: JobQueue,
    pub(super) leases: Leases,
    /// Longest time without progress for which a job is kept from other workers.
    pub(super) max_lease: Duration,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) stop: CancellationToken,
}

impl PullContext {
    /// Runs a pull, and repeats it after a delay until the server has answered.
    pub(super) async fn run(self: Arc<Self>, order: PullOrder) {
        let key = TenantLane {
            model: self.queue.settings.model.clone(),
            lane: order.lane,
            tenant: order.tenant.clone(),
        };
        let mut left = order.count;
        if let Err(error) = self.pull(&key, &order, &mut left).await {
            metrics::fetch_failed(order.lane);
            let tenant = &order.tenant;
            tracing::warn!(lane = %order.lane, %tenant, %error, "pull failed; retrying");
            self.queue.forget(&key);
            self.restore(&key).await;
            let end = PullEnd::Failed;
            // Nobody listens once the worker has stopped.
            let _ = self.events.send(Event::Ended { key, end }).await;
        } else if left > 0 {
            let end = PullEnd::Empty;
            let _ = self.events.send(Event::Ended { key, end }).await;
        }
    }

    async fn pull(
        &self,
        key: &TenantLane,
        order: &PullOrder,
        left: &mut usize,
    ) -> Result<(), async_nats::Error> {
        let consumer = self.queue.consumer(key).await?;
        if order.waits {
            let batch = consumer.batch().max_messages(order.count).expires(PULL_WAIT);
            self.receive_all(key, batch.messages().await?, left).await
        } else {
            let batch = consumer.fetch().max_messages(order.count).expires(PULL_WAIT);
            self.receive_all(key, batch.messages().await?, left).await
        }
    }

    async fn receive_all(
        &self,
        key: &TenantLane,
        mut messages: impl Stream<Item = Result<Message, async_nats::Error>> + Unpin,
        left: &mut usize,
    ) -> Result<(), async_nats::Error> {
        while let Some(message) = messages.next().await {
            let (job, pending) = self.receive(message?)?;
            *left -= 1;
            let event = Event::Message {
                key: key.clone(),
                job: Box::new(job),
                pending,
            };
            if self.events.send(event).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn receive(&self, message: Message) -> Result<(Fetched, u64), async_nats::Error> {
        let info = message.info()?;
        let pending = info.pending;
        let submitted_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos())?;
        let delivery = Delivery {
            sequence: info.stream_sequence,
            attempt: u64::try_from(info.delivered).unwrap_or(1).max(1),
            // Read once it matters.
            hand_backs: 0,
            submitted_at: time::to_millis(submitted_at),
            received_at: clock::now(),
            trace: TraceContext::from_message(message.headers.as_ref()),
            fetch_span: None,
        };
        let Message { message, context: _ } = message;
        let reply = message.reply.clone().ok_or("a message without a reply subject")?;
        let acker = Acker::new(self.queue.settings.client.clone(), reply);
        let fetched = Fetched {
            message,
            delivery,
            lease: self.leases.acquire(acker, self.max_lease),
        };
        Ok((fetched, pending))
    }

    /// Waits until the tenant's consumer exists again, or the worker stops.
    async fn restore(&self, key: &TenantLane) {
        let mut backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
        while backoff.wait(&self.stop).await {
            match self.queue.consumer(key).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(lane = %key.lane, tenant = %key.tenant, %error, "consumer unavailable");
                }
            }
        }
    }
}
