//! Which workers are alive, learned from their heartbeats.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use precis_schemas::event::{HEARTBEAT_TIMEOUT_SECONDS, Heartbeat};
use precis_schemas::{Token, subject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The workers that were heard of lately. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LiveWorkers {
    seen: Arc<RwLock<HashMap<Token, (Instant, Heartbeat)>>>,
}

impl LiveWorkers {
    /// Listens to heartbeats until `stop`.
    ///
    /// # Errors
    /// When the subscription fails.
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
                    Err(error) => tracing::debug!(%error, "a heartbeat that can't be read"),
                }
            }
        });
        Ok(workers)
    }

    /// Remembers a heartbeat, as if it had been heard.
    pub fn note(&self, heartbeat: Heartbeat) {
        // A poisoned lock still holds a usable map: the writer only inserts and removes whole entries.
        let mut seen = self
            .seen
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if heartbeat.leaving {
            seen.remove(&heartbeat.worker);
        } else {
            seen.insert(heartbeat.worker.clone(), (Instant::now(), heartbeat));
        }
        let now = Instant::now();
        seen.retain(|_, (at, _)| now.duration_since(*at) < Duration::from_secs(HEARTBEAT_TIMEOUT_SECONDS));
    }

    /// The last heartbeat of every live worker, by worker id.
    pub fn live(&self) -> Vec<Heartbeat> {
        let now = Instant::now();
        let seen = self
            .seen
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut live: Vec<Heartbeat> = seen
            .values()
            .filter(|(at, _)| is_fresh(*at, now))
            .map(|(_, heartbeat)| heartbeat.clone())
            .collect();
        live.sort_by(|a, b| a.worker.cmp(&b.worker));
        live
    }

    /// The name under which `model` is served: itself, or that of a live worker whose model has this name.
    pub fn resolve(&self, model: &str) -> Option<Token> {
        let now = Instant::now();
        let seen = self
            .seen
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let live = || {
            seen.values()
                .filter(|(at, _)| is_fresh(*at, now))
                .map(|(_, heartbeat)| heartbeat)
        };
        // Every job asks: nothing is copied. The same of several, whichever is heard of first.
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
