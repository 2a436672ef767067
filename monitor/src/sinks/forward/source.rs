//! What the messages of a stream are to a receiver.

use std::sync::Arc;

use precis_runtime::trace_context::TraceContext;
use precis_schemas::JobResult;

use super::item::Item;
use super::sampling::is_chosen;
use crate::consumer::Delivered;
use crate::row::Scorer;

/// What a message is.
#[derive(Debug)]
pub(crate) enum Read {
    /// Something to forward.
    Item(Box<Item>),
    /// Nothing to forward.
    Skip,
    /// Something whose prediction is not there yet.
    NotYet,
}

/// Makes items of messages.
pub(crate) trait Source: Send + Sync {
    /// What each of the messages is, in their order; none when that could not be found out now.
    fn read(
        &self,
        messages: Arc<Vec<Delivered>>,
        sampling_rate: f64,
    ) -> impl Future<Output = Option<Vec<Read>>> + Send;
}

/// The stream `RESULTS`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Predictions {
    /// Whether vectors of the texts go along.
    pub(crate) vectors: bool,
}

impl Source for Predictions {
    async fn read(&self, messages: Arc<Vec<Delivered>>, sampling_rate: f64) -> Option<Vec<Read>> {
        // Scores are arithmetic over whole texts: not on the threads that serve the network.
        let vectors = self.vectors;
        let reading = tokio::task::spawn_blocking(move || {
            let scorer = Scorer::default();
            let read = |one: &Delivered| prediction(one, sampling_rate, vectors, &scorer);
            messages.iter().map(read).collect()
        });
        reading.await.ok()
    }
}

/// What can't be read is left to the sink of ClickHouse, which reads every result and buries what is none.
fn prediction(one: &Delivered, sampling_rate: f64, vectors: bool, scorer: &Scorer) -> Read {
    let payload = &one.message.payload;
    let Ok(mut result) = serde_json::from_slice::<JobResult>(payload) else {
        return Read::Skip;
    };
    if !is_chosen(&result, sampling_rate) {
        return Read::Skip;
    }
    if !vectors {
        result.embeddings = None;
    }
    let trace = TraceContext::from_message(one.message.headers.as_ref());
    let trace_id = trace.map(|trace| trace.trace_id().to_owned());
    Read::Item(Box::new(Item::prediction(
        result,
        trace_id,
        payload.len(),
        scorer,
    )))
}
