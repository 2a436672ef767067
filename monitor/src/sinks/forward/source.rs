//! Sources: what the messages of a stream mean to a forwarder.

use std::sync::Arc;

use precis_runtime::trace_context::TraceContext;
use precis_schemas::JobResult;

use super::item::Item;
use super::sampling::is_chosen;
use crate::consumer::Delivery;
use crate::row::Scorer;

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum SourceItem {
    /// Forward it.
    Forward(Box<Item>),
    /// Acknowledge it; there is nothing to forward.
    Skip,
    /// Wait for its prediction.
    NotYet,
}

/// Reads the messages of a stream.
pub(crate) trait Source: Send + Sync {
    /// Returns what to do with each delivery, in order, or `None` if that can't be determined now.
    fn read(
        &self,
        deliveries: Arc<Vec<Delivery>>,
        sampling_rate: f64,
    ) -> impl Future<Output = Option<Vec<SourceItem>>> + Send;
}

/// The stream `RESULTS`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Predictions {
    /// Whether to forward embeddings.
    pub(crate) embeddings: bool,
}

impl Source for Predictions {
    async fn read(&self, deliveries: Arc<Vec<Delivery>>, sampling_rate: f64) -> Option<Vec<SourceItem>> {
        // Scoring is CPU-bound, so it runs off the threads that serve the network.
        let embeddings = self.embeddings;
        let reading = tokio::task::spawn_blocking(move || {
            let scorer = Scorer::default();
            let read = |delivery: &Delivery| prediction(delivery, sampling_rate, embeddings, &scorer);
            deliveries.iter().map(read).collect()
        });
        reading.await.ok()
    }
}

/// Skips unreadable results: the sink for ClickHouse reads every result and dead-letters those.
fn prediction(delivery: &Delivery, sampling_rate: f64, embeddings: bool, scorer: &Scorer) -> SourceItem {
    let payload = &delivery.message.payload;
    let Ok(mut result) = serde_json::from_slice::<JobResult>(payload) else {
        return SourceItem::Skip;
    };
    if !is_chosen(&result, sampling_rate) {
        return SourceItem::Skip;
    }
    if !embeddings {
        result.embeddings = None;
    }
    let trace = TraceContext::from_message(delivery.message.headers.as_ref());
    let trace_id = trace.map(|trace| trace.trace_id().to_owned());
    SourceItem::Forward(Box::new(Item::prediction(
        result,
        trace_id,
        payload.len(),
        scorer,
    )))
}
