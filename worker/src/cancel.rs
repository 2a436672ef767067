//! Jobs that their clients don't want any more, heard while they are worked on. One that is still queued is taken off the
//! queue by whoever cancels it; whichever way it goes, its result says so, and the first result wins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::Client;
use futures::StreamExt;
use precis_schemas::event::Cancel;
use precis_schemas::{JobId, subject};
use tokio_util::sync::CancellationToken;

type Running = Arc<Mutex<HashMap<(JobId, u64), CancellationToken>>>;

/// The jobs of this worker that can be cancelled.
#[derive(Clone, Default)]
pub struct Cancels {
    running: Running,
}

/// A job that can be cancelled, until this is dropped.
pub struct Watched {
    running: Running,
    key: (JobId, u64),
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
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.key);
    }
}

impl Cancels {
    /// Watches a job by its id and its sequence in `JOBS`.
    pub fn watch(&self, id: &JobId, sequence: u64) -> Watched {
        let (key, token) = ((id.clone(), sequence), CancellationToken::new());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(key.clone(), token.clone());
        Watched {
            running: self.running.clone(),
            key,
            token,
        }
    }

    fn cancel(&self, body: &[u8]) {
        let Ok(cancel) = serde_json::from_slice::<Cancel>(body) else {
            tracing::debug!("a cancel that can't be read");
            return;
        };
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = running.get(&(cancel.id.clone(), cancel.job_sequence)) {
            tracing::info!(job = %cancel.id, "a job is cancelled by its client");
            token.cancel();
        }
    }

    /// Listens until `stop`.
    pub async fn listen(self, client: Client, stop: CancellationToken) {
        let heard = async {
            match client.subscribe(subject::ALL_CANCELS).await {
                // The client subscribes again by itself when the connection comes back.
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        self.cancel(&message.payload);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_job_that_is_meant_is_cancelled() {
        let cancels = Cancels::default();
        let id = JobId::generate();
        let (first, second) = (cancels.watch(&id, 1), cancels.watch(&id, 2));
        let cancel = Cancel { id, job_sequence: 2 };
        cancels.cancel(b"no cancel");
        cancels.cancel(&serde_json::to_vec(&cancel).unwrap());
        assert!(!first.token().is_cancelled() && second.token().is_cancelled());
        drop((first, second));
        assert!(cancels.running.lock().unwrap().is_empty());
    }
}
