//! Leases keep delivered jobs from being delivered to another worker.
//!
//! A timer sends progress acknowledgements for every leased job, so that a busy model never delays them. A lease is no
//! lock: a worker that lost its connection may run a job that another worker runs too. The first result wins.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, PublishError, Subject};
use parking_lot::Mutex;
use precis_runtime::clock::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The leases of one worker. Cheap to clone.
#[derive(Clone, Default)]
pub struct Leases {
    active: Arc<Mutex<HashMap<u64, ActiveLease>>>,
    next: Arc<AtomicU64>,
}

/// Acknowledges one delivery.
#[derive(Debug, Clone)]
pub struct Acker {
    client: Client,
    reply: Subject,
}

impl Acker {
    /// Creates the acker of the delivery with this reply subject.
    pub fn new(client: Client, reply: Subject) -> Self {
        Self { client, reply }
    }

    async fn send(&self, kind: AckKind) -> Result<(), PublishError> {
        self.client.publish(self.reply.clone(), kind.into()).await
    }
}

struct ActiveLease {
    acker: Acker,
    /// Longest time without progress.
    limit: Duration,
    /// No progress is sent from this moment on, so that a stuck job goes to another worker.
    expires: Instant,
    lapsed: CancellationToken,
}

/// A hold on one delivered job. Dropping it stops the progress acknowledgements; the job is then delivered again after
/// the ack wait.
pub struct Lease {
    leases: Leases,
    key: u64,
    acker: Acker,
    lapsed: CancellationToken,
}

/// Renews a lease while its job makes progress.
#[derive(Clone)]
pub struct LeaseRenewer {
    leases: Leases,
    key: u64,
}

impl LeaseRenewer {
    /// Notes that the job made progress.
    pub fn renew(&self) {
        if let Some(lease) = self.leases.active.lock().get_mut(&self.key) {
            lease.expires = Instant::now() + lease.limit;
        }
    }
}

impl Leases {
    /// Leases a job until it makes no progress for `limit`.
    pub fn acquire(&self, acker: Acker, limit: Duration) -> Lease {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let lapsed = CancellationToken::new();
        let lease = ActiveLease {
            acker: acker.clone(),
            limit,
            expires: Instant::now() + limit,
            lapsed: lapsed.clone(),
        };
        self.with(|active| active.insert(key, lease));
        Lease {
            leases: self.clone(),
            key,
            acker,
            lapsed,
        }
    }

    /// Returns the number of leased jobs.
    pub fn len(&self) -> usize {
        self.with(|active| active.len())
    }

    /// Reports whether no job is leased.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<u64, ActiveLease>) -> T) -> T {
        let mut active = self.active.lock();
        let value = change(&mut active);
        metrics::in_flight(active.len());
        value
    }

    /// Returns the ackers of the leases that have not expired, and lapses the others.
    fn unexpired(&self) -> Vec<Acker> {
        let now = Instant::now();
        self.with(|active| {
            let (unexpired, expired): (Vec<_>, Vec<_>) =
                active.values().partition(|lease| now < lease.expires);
            expired.iter().for_each(|lease| lease.lapsed.cancel());
            unexpired.iter().map(|lease| lease.acker.clone()).collect()
        })
    }

    /// Acknowledges progress on every leased job each `period`, until `stop`.
    pub async fn send_progress(self, period: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval_at(Instant::now() + period, period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            for acker in self.unexpired() {
                if let Err(error) = acker.send(AckKind::Progress).await {
                    tracing::debug!(%error, "progress acknowledgement not sent");
                }
            }
        }
    }
}

impl Lease {
    /// Returns a token that is cancelled when the lease expires. Another worker may then get the job, so this one stops.
    pub fn lapsed(&self) -> &CancellationToken {
        &self.lapsed
    }

    /// Returns what renews the lease.
    pub fn renewer(&self) -> LeaseRenewer {
        LeaseRenewer {
            leases: self.leases.clone(),
            key: self.key,
        }
    }

    /// Takes the job off the queue, without waiting for the server.
    ///
    /// The result is stored by now. If the acknowledgement is lost with its connection, the job is delivered again, and
    /// that delivery finds the result.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn acknowledge(self) -> Result<(), PublishError> {
        self.acker.send(AckKind::Ack).await
    }

    /// Returns the job to the queue, to be delivered again after `delay`.
    pub async fn hand_back(self, delay: Duration) {
        let delay = (!delay.is_zero()).then_some(delay);
        if let Err(error) = self.acker.send(AckKind::Nak(delay)).await {
            tracing::debug!(%error, "job not handed back; it is delivered again after the ack wait");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.with(|active| active.remove(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use async_nats::ConnectOptions;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(600);

    async fn acker() -> Acker {
        // Nothing listens on this port; nothing is sent.
        let options = ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect("nats://127.0.0.1:1").await.unwrap();
        Acker::new(client, "reply".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_makes_progress_keeps_its_lease_and_a_stuck_one_loses_it() {
        let leases = Leases::default();
        let acker = acker().await;
        let (running, stuck) = (leases.acquire(acker.clone(), LIMIT), leases.acquire(acker, LIMIT));
        for _ in 0..4 {
            tokio::time::advance(LIMIT / 2).await;
            running.renewer().renew();
            leases.unexpired();
        }
        assert!(!running.lapsed().is_cancelled());
        assert!(stuck.lapsed().is_cancelled());
        assert_eq!((leases.unexpired().len(), leases.len()), (1, 2));
    }
}
