//! Tracks live workers by their heartbeats.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use parking_lot::RwLock;
use precis_schemas::event::{HEARTBEAT_TIMEOUT_SECONDS, Heartbeat};
use precis_schemas::{Token, subject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The workers with a recent heartbeat. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LiveWorkers {
    seen: Arc<RwLock<HashMap<Token, (Instant, Heartbeat)>>>,
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
        let mut seen = self.seen.write();
        if heartbeat.leaving {
            seen.remove(&heartbeat.worker);
        } else {
            seen.insert(heartbeat.worker.clone(), (Instant::now(), heartbeat));
        }
        let now = Instant::now();
        seen.retain(|_, (at, _)| now.duration_since(*at) < Duration::from_secs(HEARTBEAT_TIMEOUT_SECONDS));
    }

    /// Returns the last heartbeat of every live worker, sorted by worker ID.
    pub fn live(&self) -> Vec<Heartbeat> {
        let now = Instant::now();
        let seen = self.seen.read();
        let mut live: Vec<Heartbeat> = seen
            .values()
            .filter(|(at, _)| is_fresh(*at, now))
            .map(|(_, heartbeat)| heartbeat.clone())
            .collect();
        live.sort_by(|a, b| a.worker.cmp(&b.worker));
        live
    }

    /// Returns the name under which `model` is served: `model` itself, or the served name of a live worker whose model
    /// is called `model`.
    pub fn resolve(&self, model: &str) -> Option<Token> {
        let now = Instant::now();
        let seen = self.seen.read();
        let live = || {
            seen.values()
                .filter(|(at, _)| is_fresh(*at, now))
                .map(|(_, heartbeat)| heartbeat)
        };
        // Every job calls this, so nothing is copied. Of several workers, the one with the smallest ID decides.
        let first = |is_it: &dyn Fn(&Heartbeat) -> bool| {
            live()
                .filter(|heartbeat| is_it(heartbeat))
                .min_by(|a, b| a.worker.cmp(&b.worker))
        };
        first(&|heartbeat| heartbeat.model.served_as.as_str() == model)
            .or_else(|| first(&|heartbeat| heartbeat.model.name == model))
            .map(|heartbeat| heartbeat.model.served_as.clone())
    }
}

fn is_fresh(heard: Instant, now: Instant) -> bool {
    now.duration_since(heard) < Duration::from_secs(HEARTBEAT_TIMEOUT_SECONDS)
}
