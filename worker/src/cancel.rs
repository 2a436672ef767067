//! Jobs that their clients don't want any more, heard while they are worked on, and a while before: a job may be on its
//! way from the queue to the engine when its client cancels it.
//!
//! Whoever cancels a job over REST has stored its result and taken it off the queue by then; whichever way it goes, the
//! first result wins. A worker that has the job says so, and is not told again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use async_nats::Client;
use futures::StreamExt;
use precis_schemas::event::Cancel;
use precis_schemas::{JobId, subject};
use tokio_util::sync::CancellationToken;

/// How long a cancelled job is remembered that is not here, or not yet.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// Most of them; the oldest are forgotten first.
const MOST_REMEMBERED: usize = 10_000;

/// A job by its id and its sequence in `JOBS`: a later job of the same id is another.
type Key = (JobId, u64);

#[derive(Default)]
struct Known {
    /// The token of each running job, and how many of its deliveries run here.
    running: HashMap<Key, (CancellationToken, usize)>,
    cancelled: HashSet<Key>,
    /// What `cancelled` has, in the order of arrival.
    order: VecDeque<(Instant, Key)>,
}

impl Known {
    fn remember(&mut self, key: &Key, now: Instant) {
        if self.cancelled.insert(key.clone()) {
            self.order.push_back((now, key.clone()));
        }
        while let Some((at, oldest)) = self.order.front()
            && (self.order.len() > MOST_REMEMBERED || now.duration_since(*at) > REMEMBERED)
        {
            self.cancelled.remove(oldest);
            self.order.pop_front();
        }
    }
}

/// The jobs of this worker that can be cancelled. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cancels(Arc<Mutex<Known>>);

/// A job that can be cancelled, until this is dropped.
pub struct Watched {
    all: Cancels,
    key: Key,
    token: CancellationToken,
}

impl Watched {
    /// Cancelled when the job is.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut known = self.all.lock();
        if let Some((_, deliveries)) = known.running.get_mut(&self.key) {
            *deliveries -= 1;
            if *deliveries == 0 {
                known.running.remove(&self.key);
            }
        }
    }
}

impl Cancels {
    /// Watches a job by its id and its sequence in `JOBS`. It may be cancelled already.
    pub fn watch(&self, id: &JobId, sequence: u64) -> Watched {
        let key = (id.clone(), sequence);
        let mut known = self.lock();
        let cancelled = known.cancelled.contains(&key);
        let (token, deliveries) = known.running.entry(key.clone()).or_default();
        *deliveries += 1;
        if cancelled {
            token.cancel();
        }
        let token = token.clone();
        drop(known);
        Watched {
            all: self.clone(),
            key,
            token,
        }
    }

    /// Heeds a message; true when the job is here.
    fn cancel(&self, body: &[u8]) -> bool {
        let Ok(cancel) = serde_json::from_slice::<Cancel>(body) else {
            tracing::debug!("a cancel that can't be read");
            return false;
        };
        let key = (cancel.id, cancel.job_sequence);
        let mut known = self.lock();
        known.remember(&key, Instant::now());
        let Some((token, _)) = known.running.get(&key) else {
            return false;
        };
        if !token.is_cancelled() {
            tracing::info!(job = %key.0, "a job is cancelled by its client");
            token.cancel();
        }
        true
    }

    /// Listens until `stop`.
    pub async fn listen(self, client: Client, stop: CancellationToken) {
        let heard = async {
            match client.subscribe(subject::ALL_CANCELS).await {
                // The client subscribes again by itself when the connection comes back.
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        if self.cancel(&message.payload)
                            && let Some(reply) = message.reply
                            && let Err(error) = client.publish(reply, "".into()).await
                        {
                            tracing::debug!(%error, "who cancelled a job can't be told that it is here");
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "jobs that are running can't be cancelled"),
            }
        };
        tokio::select! {
            () = heard => {}
            () = stop.cancelled() => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Entries are inserted and removed whole, so the maps are sound even after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel(id: &JobId, job_sequence: u64) -> Vec<u8> {
        let id = id.clone();
        serde_json::to_vec(&Cancel { id, job_sequence }).unwrap()
    }

    #[test]
    fn only_the_job_that_is_meant_is_cancelled() {
        let cancels = Cancels::default();
        let id = JobId::generate();
        let (first, second) = (cancels.watch(&id, 1), cancels.watch(&id, 2));
        assert!(!cancels.cancel(b"no cancel"));
        assert!(cancels.cancel(&cancel(&id, 2)));
        assert!(!first.token().is_cancelled() && second.token().is_cancelled());
        // Told again, it is still here; another one is not.
        assert!(cancels.cancel(&cancel(&id, 2)));
        assert!(!cancels.cancel(&cancel(&JobId::generate(), 2)));
        drop((first, second));
        assert!(cancels.lock().running.is_empty());
    }

    #[test]
    fn a_job_that_is_cancelled_on_its_way_here_does_not_begin() {
        let cancels = Cancels::default();
        let id = JobId::generate();
        assert!(!cancels.cancel(&cancel(&id, 7)));
        assert!(cancels.watch(&id, 7).token().is_cancelled());
        // The same id, submitted again.
        assert!(!cancels.watch(&id, 8).token().is_cancelled());
    }

    #[test]
    fn a_redelivery_to_the_same_worker_can_still_be_cancelled() {
        let cancels = Cancels::default();
        let id = JobId::generate();
        let (first, redelivery) = (cancels.watch(&id, 1), cancels.watch(&id, 1));
        drop(first);
        assert!(cancels.cancel(&cancel(&id, 1)));
        assert!(redelivery.token().is_cancelled());
        drop(redelivery);
        assert!(cancels.lock().running.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let mut known = Known::default();
        let (id, start) = (JobId::generate(), Instant::now());
        for sequence in 0..=MOST_REMEMBERED as u64 {
            known.remember(&(id.clone(), sequence), start);
        }
        assert_eq!(known.cancelled.len(), MOST_REMEMBERED);
        assert!(!known.cancelled.contains(&(id.clone(), 0)));
        known.remember(&(id, 0), start + REMEMBERED + Duration::from_secs(1));
        assert_eq!((known.cancelled.len(), known.order.len()), (1, 1));
    }
}
