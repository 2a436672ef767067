//! Stage 1: pull messages, one task for each lane, as many as the next batch has room for.
//!
//! Each lane's first pull of a round asks for its share by weight, so that bulk work always moves a
//! little; what a lane leaves free, the others get. Pulls stand open for a second at most, also while a
//! batch is in the model, so that at most the room of one batch a lane is held beyond it.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Message};
use futures::StreamExt;
use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::config::NatsConfig;
use precis_runtime::topology::{self, TopologyError};
use precis_schemas::topology::{TopologyLimits, worker_consumer};
use precis_schemas::{Lane, Token, time};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::{Acker, Lease, Leases};
use crate::metrics;

/// How long a pull stands open when there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// First pause after a failed pull; doubled up to a few seconds. During an election of a cluster pulls
/// fail at once, and without the pause this would be a hot loop.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A message that this worker holds.
pub struct Fetched {
    /// Subject, headers and body.
    pub message: async_nats::Message,
    /// The hold on it.
    pub lease: Lease,
    /// Sequence in `JOBS`.
    pub sequence: u64,
    /// How often it had been delivered, this time included.
    pub attempt: u64,
    /// When the stream took it.
    pub submitted_at: Timestamp,
    /// When it was received here.
    pub received_at: Timestamp,
}

struct Pull {
    count: usize,
    expires: Duration,
}

enum Event {
    Message(Box<Fetched>),
    /// The lane's pull has ended.
    Done(usize),
}

struct LaneState {
    lane: Lane,
    pulls: mpsc::Sender<Pull>,
    open: bool,
    /// Whether the lane has had its share in this round.
    had_share: bool,
}

/// Pulls the lanes of one worker.
pub struct Fetcher {
    lanes: Vec<LaneState>,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
}

fn weight(lane: Lane) -> usize {
    lane.weight() as usize
}

/// `room` times the lane's part of all weights, at least 1.
fn share(room: usize, lane: Lane, lanes: impl Iterator<Item = Lane>) -> usize {
    let all: usize = lanes.map(weight).sum();
    (room * weight(lane) / all.max(1)).max(1)
}

impl Fetcher {
    /// Starts a task for each lane.
    ///
    /// # Errors
    /// When a lane's consumer can't be had.
    pub async fn start(
        queue: &LaneQueue,
        lanes: &[Lane],
        leases: &Leases,
        hold_for: Duration,
        stop: CancellationToken,
    ) -> Result<Self, TopologyError> {
        let (sender, events) = mpsc::channel(1024);
        let mut states = Vec::with_capacity(lanes.len());
        for (index, lane) in lanes.iter().copied().enumerate() {
            let (pulls, requests) = mpsc::channel(1);
            let task = LaneTask {
                index,
                lane,
                consumer: queue.consumer(lane).await?,
                queue: queue.clone(),
                leases: leases.clone(),
                hold_for,
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

    /// The next batch: waits for a first message, then up to `linger` for more, at most `room` in all.
    /// None when the worker is to stop; what was pulled has then been handed back.
    pub async fn next(&mut self, room: usize, linger: Duration) -> Option<Vec<Fetched>> {
        let mut taken: Vec<Fetched> = Vec::with_capacity(room);
        let mut give_up: Option<Instant> = None;
        for lane in &mut self.lanes {
            lane.had_share = false;
        }
        while taken.len() < room {
            if self.stop.is_cancelled() {
                self.hand_back(taken).await;
                return None;
            }
            self.open_pulls(room - taken.len(), give_up).await;
            let event = match give_up {
                None => tokio::select! {
                    event = self.events.recv() => event,
                    () = self.stop.cancelled() => continue,
                },
                // What is there is taken. A timer would wait for its next tick, a millisecond off.
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
                Some(Event::Message(fetched)) => {
                    taken.push(*fetched);
                    give_up.get_or_insert_with(|| Instant::now() + linger);
                }
                Some(Event::Done(index)) => self.lanes[index].open = false,
                // Every lane's task has ended, which they only do when this is dropped, or by a defect.
                None => {
                    self.hand_back(taken).await;
                    return None;
                }
            }
        }
        Some(taken)
    }

    async fn open_pulls(&mut self, room: usize, give_up: Option<Instant>) {
        let expires = give_up.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
        // A pull that would expire at once is not worth its round trip.
        if expires < Duration::from_millis(1) {
            return;
        }
        let all: Vec<Lane> = self.lanes.iter().map(|state| state.lane).collect();
        for state in self.lanes.iter_mut().filter(|state| !state.open) {
            let count = if state.had_share {
                room
            } else {
                share(room, state.lane, all.iter().copied())
            };
            state.had_share = true;
            state.open = state.pulls.send(Pull { count, expires }).await.is_ok();
        }
    }

    /// Waits until no pull stands open and hands back everything that was not begun.
    async fn hand_back(&mut self, taken: Vec<Fetched>) {
        for fetched in taken {
            fetched.lease.hand_back(Duration::ZERO).await;
        }
        while self.lanes.iter().any(|state| state.open) {
            match tokio::time::timeout(IDLE * 3, self.events.recv()).await {
                Ok(Some(Event::Message(fetched))) => fetched.lease.hand_back(Duration::ZERO).await,
                Ok(Some(Event::Done(index))) => self.lanes[index].open = false,
                Ok(None) | Err(_) => return,
            }
        }
        while let Ok(event) = self.events.try_recv() {
            if let Event::Message(fetched) = event {
                fetched.lease.hand_back(Duration::ZERO).await;
            }
        }
    }
}

/// Where the lanes' consumers come from.
#[derive(Clone)]
pub struct LaneQueue {
    /// The connection.
    pub client: Client,
    /// JetStream on it.
    pub jetstream: jetstream::Context,
    /// The model whose jobs are pulled.
    pub model: Token,
    /// Time without progress after which a job is delivered again.
    pub ack_wait: Duration,
    /// Limits of the streams, should they have to be set up again.
    pub limits: TopologyLimits,
    /// How streams and consumers are set up.
    pub settings: NatsConfig,
}

impl LaneQueue {
    /// The consumer of a lane, set up if needed.
    async fn consumer(&self, lane: Lane) -> Result<PullConsumer, TopologyError> {
        let NatsConfig {
            replicas,
            manage_topology,
            ..
        } = self.settings;
        let spec = worker_consumer(&self.model, lane, self.ack_wait);
        topology::consumer(&self.jetstream, &spec, replicas, manage_topology).await
    }

    /// As [`LaneQueue::consumer`], on a server that may have lost its streams.
    async fn consumer_again(&self, lane: Lane) -> Result<PullConsumer, TopologyError> {
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
    hold_for: Duration,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
}

impl LaneTask {
    async fn run(mut self, mut requests: mpsc::Receiver<Pull>) {
        let mut pause = FIRST_PAUSE;
        while let Some(pull) = requests.recv().await {
            match self.pull(&pull).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    metrics::fetch_failed(self.lane);
                    tracing::warn!(lane = %self.lane, %error, "a pull failed");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    // The consumer, or the whole stream, may be gone.
                    match self.queue.consumer_again(self.lane).await {
                        Ok(consumer) => self.consumer = consumer,
                        Err(error) => tracing::warn!(lane = %self.lane, %error, "no consumer"),
                    }
                }
            }
            if self.events.send(Event::Done(self.index)).await.is_err() {
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
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        let submitted_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos())?;
        let Message { message, context: _ } = message;
        let reply = message.reply.clone().ok_or("a message without a reply subject")?;
        let acker = Acker::new(self.queue.client.clone(), reply);
        Ok(Fetched {
            message,
            lease: self.leases.hold(acker, self.hold_for),
            sequence,
            attempt: u64::try_from(delivered).unwrap_or(1).max(1),
            submitted_at: time::to_millis(submitted_at),
            received_at: clock::now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_has_a_share_and_high_the_largest() {
        let shares = |room| {
            Lane::ALL
                .iter()
                .map(|lane| share(room, *lane, Lane::ALL.iter().copied()))
                .collect::<Vec<_>>()
        };
        assert_eq!(shares(8), [4, 2, 1]);
        assert_eq!(shares(64), [39, 19, 4]);
        assert_eq!(shares(1), [1, 1, 1]);
        assert_eq!(share(8, Lane::Bulk, [Lane::Bulk].into_iter()), 8);
    }
}
