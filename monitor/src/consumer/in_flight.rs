//! Deliveries in flight: a background task keeps them alive until they are settled.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::delivery::Delivery;

/// Deliveries in flight. While this value lives, JetStream does not redeliver the unsettled ones.
pub(crate) struct InFlight {
    deliveries: Arc<Vec<Delivery>>,
    keep_alive: AbortHandle,
}

impl InFlight {
    /// Starts to keep `deliveries` alive, four times per `ack_wait`.
    pub(super) fn new(deliveries: Vec<Delivery>, ack_wait: Duration) -> Self {
        let deliveries = Arc::new(deliveries);
        let shared = Arc::clone(&deliveries);
        let task = tokio::spawn(async move { keep_alive(&shared, ack_wait / 4).await });
        Self {
            deliveries,
            keep_alive: task.abort_handle(),
        }
    }

    pub(crate) fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Returns a shared handle on the deliveries, for use on another thread.
    pub(crate) fn shared(&self) -> Arc<Vec<Delivery>> {
        Arc::clone(&self.deliveries)
    }

    /// Returns the deliveries that were neither acknowledged nor handed back.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter().filter(|delivery| !delivery.is_settled())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.keep_alive.abort();
    }
}

async fn keep_alive(deliveries: &[Delivery], interval: Duration) -> Infallible {
    loop {
        tokio::time::sleep(interval).await;
        for delivery in deliveries {
            delivery.keep_alive().await;
        }
    }
}
