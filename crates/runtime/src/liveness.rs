//! Tracks live workers by their heartbeats.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use precis_schemas::event::{HEARTBEAT_TIMEOUT_SECONDS, Heartbeat};
use precis_schemas::{Token, subject};
use tokio_util::sync::CancellationToken;

use crate::expiring_map::ExpiringMap;

/// The workers with a recent heartbeat. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveWorkers {
    heartbeats: Arc<ExpiringMap<Token, Heartbeat>>,
}

impl Default for LiveWorkers {
    fn default() -> Self {
        let timeout = Duration::from_secs(HEARTBEAT_TIMEOUT_SECONDS);
        Self {
            heartbeats: Arc::new(ExpiringMap::new(timeout, usize::MAX)),
        }
    }
}

impl LiveWorkers {
    /// Subscribes to heartbeats until `stop` is cancelled.
    ///
    /// # Errors
    /// If the subscription fails.
    pub async fn listen(
        client: &Client,
        stop: CancellationToken,
    ) -> Result<Self, async_nats::SubscribeError> {
        let workers = Self::default();
        let mut heartbeats = client.subscribe(subject::ALL_WORKERS).await?;
        let seen = workers.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = stop.cancelled() => return,
                    message = heartbeats.next() => message,
                };
                let Some(message) = message else { return };
                match serde_json::from_slice::<Heartbeat>(&message.payload) {
                    Ok(heartbeat) => seen.note(heartbeat),
                    Err(error) => tracing::debug!(%error, "ignoring an unreadable heartbeat"),
                }
            }
        });
        Ok(workers)
    }

    /// Records a heartbeat.
    pub fn note(&self, heartbeat: Heartbeat) {
        if heartbeat.leaving {
            self.heartbeats.remove(&heartbeat.worker);
        } else {
            self.heartbeats.insert(heartbeat.worker.clone(), heartbeat);
        }
    }

    /// Applies `read` to the last heartbeat of every live worker, in no particular order. Copies nothing.
    pub fn scan<R>(&self, read: impl FnOnce(&mut dyn Iterator<Item = &Heartbeat>) -> R) -> R {
        self.heartbeats
            .scan(|entries| read(&mut entries.map(|(_, heartbeat)| heartbeat)))
    }

    /// Returns the last heartbeat of every live worker, sorted by worker id.
    pub fn live(&self) -> Vec<Heartbeat> {
        let mut live: Vec<Heartbeat> = self.scan(|heartbeats| heartbeats.cloned().collect());
        live.sort_by(|a, b| a.worker.cmp(&b.worker));
        live
    }

    /// Returns the name under which `model` is served: `model` itself, or the served name of a live worker whose model
    /// is called `model`.
    pub fn resolve(&self, model: &str) -> Option<Token> {
        self.first_served(|heartbeat| heartbeat.model.served_as.as_str() == model)
            .or_else(|| self.first_served(|heartbeat| heartbeat.model.name == model))
    }

    /// Returns the served name of the matching worker with the smallest id.
    fn first_served(&self, matches: impl Fn(&Heartbeat) -> bool) -> Option<Token> {
        // Every job calls this, so nothing else is copied.
        self.scan(|heartbeats| {
            heartbeats
                .filter(|heartbeat| matches(heartbeat))
                .min_by(|a, b| a.worker.cmp(&b.worker))
                .map(|heartbeat| heartbeat.model.served_as.clone())
        })
    }
}
