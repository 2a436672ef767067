//! Leases: a job that a worker holds is kept from being delivered to another by signs of progress from
//! a timer, not from the thread that is busy with the model.
//!
//! A lease is no lock: a worker that lost its connection may hold a job that another has by now. That is
//! harmless, because the first result wins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, PublishError, Subject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The jobs that this worker holds.
#[derive(Clone, Default)]
pub struct Leases {
    held: Arc<Mutex<HashMap<u64, Held>>>,
    next: Arc<AtomicU64>,
}

/// Where the server listens to what becomes of one delivery.
#[derive(Debug, Clone)]
pub struct Acker {
    client: Client,
    reply: Subject,
}

impl Acker {
    /// Acknowledges the delivery with this reply subject.
    pub fn new(client: Client, reply: Subject) -> Self {
        Self { client, reply }
    }

    async fn tell(&self, kind: AckKind) -> Result<(), PublishError> {
        self.client.publish(self.reply.clone(), kind.into()).await
    }
}

struct Held {
    acker: Acker,
    /// After this time no more progress is reported, so that a job stuck here is given to another.
    until: Instant,
}

/// One held job. Dropping it stops the signs of progress; it does not acknowledge.
pub struct Lease {
    leases: Leases,
    key: u64,
    /// None for a job that no server has delivered.
    acker: Option<Acker>,
}

impl Leases {
    /// Holds a job for at most `limit`.
    pub fn hold(&self, acker: Acker, limit: Duration) -> Lease {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let held = Held {
            acker: acker.clone(),
            until: Instant::now() + limit,
        };
        self.lock(|map| map.insert(key, held));
        Lease {
            leases: self.clone(),
            key,
            acker: Some(acker),
        }
    }

    /// Number of jobs held.
    pub fn len(&self) -> usize {
        self.lock(|map| map.len())
    }

    /// True when no job is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock<T>(&self, change: impl FnOnce(&mut HashMap<u64, Held>) -> T) -> T {
        // Entries are inserted and removed whole, so the map is sound even after a panic elsewhere.
        let mut map = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut map);
        metrics::in_flight(map.len());
        outcome
    }

    /// Reports progress on every held job each `period`, until `stop`.
    pub async fn report_progress(self, period: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval_at(Instant::now() + period, period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let now = Instant::now();
            let ackers: Vec<Acker> = self.lock(|map| {
                map.values()
                    .filter(|held| now < held.until)
                    .map(|held| held.acker.clone())
                    .collect()
            });
            for acker in ackers {
                if let Err(error) = acker.tell(AckKind::Progress).await {
                    tracing::debug!(%error, "progress could not be reported");
                }
            }
        }
    }
}

impl Lease {
    /// A hold on a job that no server has delivered: there is nobody to tell of its end.
    pub fn of_nobody() -> Self {
        Self {
            leases: Leases::default(),
            key: 0,
            acker: None,
        }
    }

    /// Acknowledges: the server takes the job off the queue. It is not waited for. The job's result is stored by now, so
    /// that an acknowledgement that is lost with its connection costs a delivery which finds that result, and nothing else.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn settle(self) -> Result<(), PublishError> {
        match &self.acker {
            Some(acker) => acker.tell(AckKind::Ack).await,
            None => Ok(()),
        }
    }

    /// Hands the job back, to be delivered again after `delay`.
    pub async fn hand_back(self, delay: Duration) {
        let delay = (!delay.is_zero()).then_some(delay);
        let Some(acker) = &self.acker else { return };
        if let Err(error) = acker.tell(AckKind::Nak(delay)).await {
            tracing::debug!(%error, "a job could not be handed back; it is delivered again after the ack wait");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.acker.is_some() {
            self.leases.lock(|map| map.remove(&self.key));
        }
    }
}
