//! Stage 1: pulls jobs, with one task per lane, as many as the engine has room for.
//!
//! The first pull of each lane in a round asks for the lane's share by weight, so that bulk jobs always make some
//! progress. Capacity that a lane leaves free goes to the others. A pull waits for at most a second, also while the
//! engine is busy, so that each lane holds at most one batch of jobs in advance.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Message};
use futures::StreamExt;
use jiff::Timestamp;
use precis_runtime::backoff::Backoff;
use precis_runtime::clock::{self, Instant};
use precis_runtime::config::NatsConfig;
use precis_runtime::topology::{self, TopologyError};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::topology::{TopologyLimits, worker_consumer};
use precis_schemas::{Lane, Token, time};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio_util::sync::CancellationToken;

use crate::delivery::{Delivery, Fetched};
use crate::lease::{Acker, Leases};
use crate::metrics;

/// How long a pull waits for jobs.
const PULL_WAIT: Duration = Duration::from_secs(1);
/// Delays after failed pulls. While a cluster elects a leader, pulls fail at once.
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(3);
/// Messages that all lanes may have ready for the pipeline.
const EVENT_CAPACITY: usize = 1024;

struct Pull {
    count: usize,
    expires: Duration,
}

enum Event {
    Message(Box<Fetched>),
    /// The pull of the lane with this index has ended.
    PullEnded(usize),
}

struct LaneState {
    lane: Lane,
    pulls: mpsc::Sender<Pull>,
    /// Whether a pull is open.
    open: bool,
    /// Whether the lane got its share in this round.
    had_share: bool,
}

/// Fetches jobs from the lanes of one worker.
pub struct Fetcher {
    lanes: Vec<LaneState>,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
}

fn weight(lane: Lane) -> usize {
    lane.weight() as usize
}

/// Returns the part of `capacity` that a lane gets by its weight, at least 1.
fn share(capacity: usize, lane: Lane, lanes: impl Iterator<Item = Lane>) -> usize {
    let total: usize = lanes.map(weight).sum();
    (capacity * weight(lane) / total.max(1)).max(1)
}

impl Fetcher {
    /// Starts one task per lane. `max_lease` bounds the lease of each job.
    ///
    /// # Errors
    /// When the consumer of a lane is unavailable.
    pub async fn start(
        queue: &LaneQueue,
        lanes: &[Lane],
        leases: &Leases,
        max_lease: Duration,
        stop: CancellationToken,
    ) -> Result<Self, TopologyError> {
        let (sender, events) = mpsc::channel(EVENT_CAPACITY);
        let mut states = Vec::with_capacity(lanes.len());
        for (index, lane) in lanes.iter().copied().enumerate() {
            let (pulls, requests) = mpsc::channel(1);
            let task = LaneTask {
                index,
                lane,
                consumer: queue.consumer(lane).await?,
                queue: queue.clone(),
                leases: leases.clone(),
                max_lease,
                events: sender.clone(),
                stop: stop.clone(),
            };
            tokio::spawn(task.run(requests));
            states.push(LaneState {
                lane,
                pulls,
                open: false,
                had_share: false,
            });
        }
        Ok(Self {
            lanes: states,
            events,
            stop,
        })
    }

    /// Waits for a job, and up to `linger` for more; returns at most `capacity` jobs.
    ///
    /// Returns none when the worker stops. Jobs that were fetched by then are handed back.
    pub async fn next(&mut self, capacity: usize, linger: Duration) -> Option<Vec<Fetched>> {
        let mut fetched: Vec<Fetched> = Vec::with_capacity(capacity);
        let mut linger_until: Option<Instant> = None;
        for lane in &mut self.lanes {
            lane.had_share = false;
        }
        while fetched.len() < capacity {
            if self.stop.is_cancelled() {
                self.hand_back(fetched).await;
                return None;
            }
            self.open_pulls(capacity - fetched.len(), linger_until).await;
            let event = match linger_until {
                None => tokio::select! {
                    event = self.events.recv() => event,
                    () = self.stop.cancelled() => continue,
                },
                // A timer would fire only at its next tick, up to a millisecond later.
                Some(_) if linger.is_zero() => match self.events.try_recv() {
                    Ok(event) => Some(event),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => None,
                },
                Some(at) => match tokio::time::timeout_at(at, self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => break,
                },
            };
            match event {
                Some(Event::Message(job)) => {
                    fetched.push(*job);
                    linger_until.get_or_insert_with(|| Instant::now() + linger);
                }
                Some(Event::PullEnded(index)) => self.lanes[index].open = false,
                // All lane tasks have ended, which is a bug.
                None => {
                    self.hand_back(fetched).await;
                    return None;
                }
            }
        }
        Some(fetched)
    }

    async fn open_pulls(&mut self, capacity: usize, linger_until: Option<Instant>) {
        let expires = linger_until.map_or(PULL_WAIT, |at| at.saturating_duration_since(Instant::now()));
        // A shorter pull would expire before it reaches the server.
        if expires < Duration::from_millis(1) {
            return;
        }
        let all: Vec<Lane> = self.lanes.iter().map(|state| state.lane).collect();
        for state in self.lanes.iter_mut().filter(|state| !state.open) {
            let count = if state.had_share {
                capacity
            } else {
                share(capacity, state.lane, all.iter().copied())
            };
            state.had_share = true;
            state.open = state.pulls.send(Pull { count, expires }).await.is_ok();
        }
    }

    /// Hands back `fetched` and every job that open pulls still deliver.
    async fn hand_back(&mut self, fetched: Vec<Fetched>) {
        for job in fetched {
            job.lease.hand_back(Duration::ZERO).await;
        }
        while self.lanes.iter().any(|state| state.open) {
            match tokio::time::timeout(PULL_WAIT * 3, self.events.recv()).await {
                Ok(Some(Event::Message(job))) => job.lease.hand_back(Duration::ZERO).await,
                Ok(Some(Event::PullEnded(index))) => self.lanes[index].open = false,
                Ok(None) | Err(_) => return,
            }
        }
        while let Ok(event) = self.events.try_recv() {
            if let Event::Message(job) = event {
                job.lease.hand_back(Duration::ZERO).await;
            }
        }
    }
}

/// Where the consumers of the lanes come from. Cheap to clone.
#[derive(Clone)]
pub struct LaneQueue {
    /// The connection.
    pub client: Client,
    /// JetStream on that connection.
    pub jetstream: jetstream::Context,
    /// The model whose jobs are pulled.
    pub model: Token,
    /// Time without progress after which a job is delivered again.
    pub ack_wait: Duration,
    /// Limits of the streams, for a server that lost them.
    pub limits: TopologyLimits,
    /// How streams and consumers are set up.
    pub settings: NatsConfig,
}

impl LaneQueue {
    /// Returns the consumer of a lane, and creates it if needed.
    async fn consumer(&self, lane: Lane) -> Result<PullConsumer, TopologyError> {
        let NatsConfig {
            replicas,
            manage_topology,
            ..
        } = self.settings;
        let spec = worker_consumer(&self.model, lane, self.ack_wait);
        topology::consumer(&self.jetstream, &spec, replicas, manage_topology).await
    }

    /// Returns the consumer of a lane on a server that may have lost its streams.
    async fn restore_consumer(&self, lane: Lane) -> Result<PullConsumer, TopologyError> {
        let NatsConfig {
            replicas,
            manage_topology,
            ..
        } = self.settings;
        topology::apply(&self.jetstream, &self.limits, replicas, manage_topology).await?;
        self.consumer(lane).await
    }
}

struct LaneTask {
    index: usize,
    lane: Lane,
    consumer: PullConsumer,
    queue: LaneQueue,
    leases: Leases,
    max_lease: Duration,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
}

impl LaneTask {
    async fn run(mut self, mut requests: mpsc::Receiver<Pull>) {
        let mut backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
        while let Some(pull) = requests.recv().await {
            match self.pull(&pull).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    metrics::fetch_failed(self.lane);
                    tracing::warn!(lane = %self.lane, %error, "pull failed; retrying");
                    backoff.wait(&self.stop).await;
                    match self.queue.restore_consumer(self.lane).await {
                        Ok(consumer) => self.consumer = consumer,
                        Err(error) => tracing::warn!(lane = %self.lane, %error, "consumer unavailable"),
                    }
                }
            }
            if self.events.send(Event::PullEnded(self.index)).await.is_err() {
                return;
            }
        }
    }

    async fn pull(&self, pull: &Pull) -> Result<(), async_nats::Error> {
        let mut batch: pull::Batch = self
            .consumer
            .batch()
            .max_messages(pull.count)
            .expires(pull.expires)
            .messages()
            .await?;
        while let Some(message) = batch.next().await {
            let fetched = self.receive(message?)?;
            if self.events.send(Event::Message(Box::new(fetched))).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn receive(&self, message: Message) -> Result<Fetched, async_nats::Error> {
        let info = message.info()?;
        let submitted_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos())?;
        let delivery = Delivery {
            sequence: info.stream_sequence,
            attempt: u64::try_from(info.delivered).unwrap_or(1).max(1),
            submitted_at: time::to_millis(submitted_at),
            received_at: clock::now(),
            trace: TraceContext::from_message(message.headers.as_ref()),
            fetch_span: None,
        };
        let Message { message, context: _ } = message;
        let reply = message.reply.clone().ok_or("a message without a reply subject")?;
        let acker = Acker::new(self.queue.client.clone(), reply);
        Ok(Fetched {
            message,
            delivery,
            lease: self.leases.acquire(acker, self.max_lease),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_the_capacity_by_weight_and_each_gets_some() {
        let shares = |capacity| {
            Lane::ALL
                .iter()
                .map(|lane| share(capacity, *lane, Lane::ALL.iter().copied()))
                .collect::<Vec<_>>()
        };
        assert_eq!(shares(8), [4, 2, 1]);
        assert_eq!(shares(64), [39, 19, 4]);
        assert_eq!(shares(1), [1, 1, 1]);
        assert_eq!(share(8, Lane::Bulk, [Lane::Bulk].into_iter()), 8);
    }
}
