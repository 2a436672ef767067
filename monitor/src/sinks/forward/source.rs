//! Sources: what the messages of a stream mean to a forwarder.

use std::sync::Arc;

use async_nats::jetstream;
use precis_runtime::texts::Texts;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::JobResult;
use tokio::task::spawn_blocking;

use super::item::Item;
use super::sampling::is_chosen;
use crate::consumer::Delivery;
use crate::metrics;
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

/// The stream `RESULTS`, with texts from `TEXTS`.
#[derive(Debug, Clone)]
pub(crate) struct Predictions {
    /// Name of the sink in metrics.
    pub(crate) sink: &'static str,
    pub(crate) jetstream: jetstream::Context,
    /// Whether to forward embeddings.
    pub(crate) embeddings: bool,
}

impl Source for Predictions {
    async fn read(&self, deliveries: Arc<Vec<Delivery>>, sampling_rate: f64) -> Option<Vec<SourceItem>> {
        // Decoding and scoring are CPU-bound, so they run off the threads that serve the network.
        let (embeddings, shared) = (self.embeddings, Arc::clone(&deliveries));
        let decoding = spawn_blocking(move || {
            let chosen = |delivery: &Delivery| chosen_result(delivery, sampling_rate, embeddings);
            shared.iter().map(chosen).collect::<Vec<_>>()
        });
        let mut results = decoding.await.ok()?;
        if results.iter().flatten().any(|result| result.text_in_stream) {
            let attached = async {
                let texts = Texts::open(&self.jetstream).await?;
                texts.attach(results.iter_mut().flatten()).await
            };
            match attached.await {
                Ok(missing) => metrics::texts_missing(self.sink, missing),
                Err(error) => {
                    tracing::warn!(sink = self.sink, %error, "texts of results not read");
                    return None;
                }
            }
        }
        let scoring = spawn_blocking(move || {
            let scorer = Scorer::default();
            let pairs = deliveries.iter().zip(results);
            pairs
                .map(|(delivery, result)| item(delivery, result, &scorer))
                .collect()
        });
        scoring.await.ok()
    }
}

/// Returns the result of a delivery if it is to be forwarded. Unreadable results are not: the sink for ClickHouse reads
/// every result and dead-letters those.
fn chosen_result(delivery: &Delivery, sampling_rate: f64, embeddings: bool) -> Option<JobResult> {
    let mut result = serde_json::from_slice::<JobResult>(&delivery.message.payload).ok()?;
    if !embeddings {
        result.embeddings = None;
    }
    is_chosen(&result, sampling_rate).then_some(result)
}

fn item(delivery: &Delivery, result: Option<JobResult>, scorer: &Scorer) -> SourceItem {
    let Some(result) = result else {
        return SourceItem::Skip;
    };
    let trace = TraceContext::from_message(delivery.message.headers.as_ref());
    let trace_id = trace.map(|trace| trace.trace_id().to_owned());
    let bytes = delivery.message.payload.len() + result.text.len();
    SourceItem::Forward(Box::new(Item::prediction(result, trace_id, bytes, scorer)))
}
