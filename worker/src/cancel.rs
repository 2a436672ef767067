//! Cancels jobs while they run, or before they start: a job may be between the queue and the engine when its client
//! cancels it.
//!
//! The gateway has stored the result of a cancelled job before it publishes the cancellation. The first result wins in
//! every case. A worker that runs the job replies, so that the gateway doesn't repeat itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use parking_lot::Mutex;
use precis_runtime::expiring_map::ExpiringMap;
use precis_schemas::event::Cancel;
use precis_schemas::{JobId, subject};
use tokio_util::sync::CancellationToken;

/// How long the worker remembers the cancellation of a job that has not arrived yet.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);
/// Most remembered cancellations; the oldest are dropped first.
const MAX_REMEMBERED: usize = 10_000;

/// A job by id and sequence in `JOBS`. An id that is submitted again has another sequence.
type JobKey = (JobId, u64);

/// A job that runs here. Its deliveries share it: a redelivery may overlap with the first one.
#[derive(Default)]
struct RunningJob {
    token: CancellationToken,
    deliveries: usize,
}

struct State {
    running: Mutex<HashMap<JobKey, RunningJob>>,
    cancelled: ExpiringMap<JobKey, ()>,
}

/// The cancellations of one worker's jobs. Cheap to clone.
#[derive(Clone)]
pub struct Cancellations(Arc<State>);

impl Default for Cancellations {
    fn default() -> Self {
        Self(Arc::new(State {
            running: Mutex::default(),
            cancelled: ExpiringMap::new(MAX_AGE, MAX_REMEMBERED),
        }))
    }
}

/// Watches one delivery for its cancellation, until it is dropped.
pub struct CancelWatcher {
    cancellations: Cancellations,
    key: JobKey,
    token: CancellationToken,
}

impl CancelWatcher {
    /// Returns a token that is cancelled when the job is.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl Drop for CancelWatcher {
    fn drop(&mut self) {
        let mut running = self.cancellations.0.running.lock();
        if let Entry::Occupied(mut job) = running.entry(self.key.clone()) {
            job.get_mut().deliveries -= 1;
            if job.get().deliveries == 0 {
                job.remove();
            }
        }
    }
}

impl Cancellations {
    /// Watches a job by its id and its sequence in `JOBS`. The token of a job that was cancelled already is cancelled.
    pub fn watch(&self, id: &JobId, sequence: u64) -> CancelWatcher {
        let key = (id.clone(), sequence);
        let mut running = self.0.running.lock();
        let job = running.entry(key.clone()).or_default();
        job.deliveries += 1;
        if self.0.cancelled.contains_key(&key) {
            job.token.cancel();
        }
        let token = job.token.clone();
        drop(running);
        CancelWatcher {
            cancellations: self.clone(),
            key,
            token,
        }
    }

    /// Handles a cancel message. Returns whether the job runs here.
    fn cancel(&self, body: &[u8]) -> bool {
        let Ok(cancel) = serde_json::from_slice::<Cancel>(body) else {
            tracing::debug!("unreadable cancel message");
            return false;
        };
        let key = (cancel.id, cancel.job_sequence);
        let running = self.0.running.lock();
        self.0.cancelled.insert(key.clone(), ());
        let Some(job) = running.get(&key) else {
            return false;
        };
        if !job.token.is_cancelled() {
            tracing::info!(job = %key.0, "job cancelled by its client");
            job.token.cancel();
        }
        true
    }

    /// Receives cancel messages until `stop`.
    pub async fn listen(self, client: Client, stop: CancellationToken) {
        let listen = async {
            match client.subscribe(subject::ALL_CANCELS).await {
                // The client restores the subscription after a reconnect.
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        if self.cancel(&message.payload)
                            && let Some(reply) = message.reply
                            && let Err(error) = client.publish(reply, "".into()).await
                        {
                            tracing::debug!(%error, "reply to a cancel message not sent");
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "subscribing to cancellations failed; running jobs can't be cancelled");
                }
            }
        };
        tokio::select! {
            () = listen => {}
            () = stop.cancelled() => {}
        }
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
    fn a_cancel_message_cancels_only_the_job_that_it_names() {
        let cancellations = Cancellations::default();
        let id = JobId::generate();
        let (first, second) = (cancellations.watch(&id, 1), cancellations.watch(&id, 2));
        assert!(!cancellations.cancel(b"no cancel"));
        assert!(cancellations.cancel(&cancel(&id, 2)));
        assert!(!first.token().is_cancelled() && second.token().is_cancelled());
        assert!(
            cancellations.cancel(&cancel(&id, 2)),
            "a repeated message finds the job"
        );
        assert!(!cancellations.cancel(&cancel(&JobId::generate(), 2)));
        drop((first, second));
        assert!(cancellations.0.running.lock().is_empty());
    }

    #[test]
    fn a_job_that_is_cancelled_before_it_arrives_does_not_start() {
        let cancellations = Cancellations::default();
        let id = JobId::generate();
        assert!(!cancellations.cancel(&cancel(&id, 7)));
        assert!(cancellations.watch(&id, 7).token().is_cancelled());
        let resubmitted = cancellations.watch(&id, 8);
        assert!(!resubmitted.token().is_cancelled());
    }

    #[test]
    fn a_redelivery_to_the_same_worker_can_still_be_cancelled() {
        let cancellations = Cancellations::default();
        let id = JobId::generate();
        let (first, redelivery) = (cancellations.watch(&id, 1), cancellations.watch(&id, 1));
        drop(first);
        assert!(cancellations.cancel(&cancel(&id, 1)));
        assert!(redelivery.token().is_cancelled());
        drop(redelivery);
        assert!(cancellations.0.running.lock().is_empty());
    }

    #[test]
    fn a_cancel_message_reaches_every_delivery_of_its_job() {
        let cancellations = Cancellations::default();
        let id = JobId::generate();
        let (first, redelivery) = (cancellations.watch(&id, 1), cancellations.watch(&id, 1));
        assert!(cancellations.cancel(&cancel(&id, 1)));
        assert!(first.token().is_cancelled() && redelivery.token().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellation_of_an_unknown_job_is_forgotten_after_a_while() {
        let cancellations = Cancellations::default();
        let id = JobId::generate();
        assert!(!cancellations.cancel(&cancel(&id, 7)));
        tokio::time::advance(MAX_AGE).await;
        assert!(!cancellations.watch(&id, 7).token().is_cancelled());
    }
}
