//! The source for late references: forwards their scores to where the predictions went.

use std::sync::Arc;

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use futures::future::join_all;
use precis_runtime::results::Results;
use precis_runtime::topology;
use precis_schemas::reference::LateReference;
use precis_schemas::topology::REFERENCES;
use precis_schemas::{Outcome, subject};

use super::item::{Item, ItemKind, ItemScores};
use super::sampling::is_chosen;
use super::source::{Source, SourceItem};
use crate::consumer::Delivery;
use crate::row::Scorer;

/// The stream `REFERENCES`. Summaries come from `RESULTS`.
#[derive(Debug, Clone)]
pub(crate) struct LateReferences {
    pub(crate) jetstream: jetstream::Context,
}

impl Source for LateReferences {
    async fn read(&self, deliveries: Arc<Vec<Delivery>>, sampling_rate: f64) -> Option<Vec<SourceItem>> {
        let results = Results::open(&self.jetstream).await.ok()?;
        let stream = topology::stream(&self.jetstream, REFERENCES).await.ok()?;
        let finding = deliveries
            .iter()
            .map(|delivery| find(delivery, sampling_rate, &results, &stream));
        let found = join_all(finding).await;
        // Scoring is CPU-bound, so it runs off the threads that serve the network.
        let scoring = tokio::task::spawn_blocking(|| {
            let scorer = Scorer::default();
            found.into_iter().map(|item| score(item, &scorer)).collect()
        });
        scoring.await.ok()
    }
}

/// Finds the prediction of a reference, if it was forwarded.
async fn find(delivery: &Delivery, sampling_rate: f64, results: &Results, stream: &Stream) -> SourceItem {
    let payload = &delivery.message.payload;
    // The sink for ClickHouse dead-letters unreadable references.
    let Ok(late) = serde_json::from_slice::<LateReference>(payload) else {
        return SourceItem::Skip;
    };
    // A reference that waited must not overwrite a later one of the same job.
    let subject = subject::reference_of(&late.id);
    let latest = stream.get_last_raw_message_by_subject(&subject);
    if latest
        .await
        .is_ok_and(|latest| latest.sequence > delivery.position.sequence)
    {
        return SourceItem::Skip;
    }
    let mut result = match results.get(&late.id).await {
        Ok(Some(stored)) => stored.result,
        // The job has not ended, or its result has expired; then the forwarder gives up after a day.
        Ok(None) => return SourceItem::NotYet,
        Err(error) => {
            tracing::debug!(job = %late.id, %error, "prediction of a late reference not read");
            return SourceItem::NotYet;
        }
    };
    let owned = result.tenant == late.tenant;
    if !owned || result.outcome != Outcome::Succeeded || !is_chosen(&result, sampling_rate) {
        return SourceItem::Skip;
    }
    result.reference = Some(late.reference);
    SourceItem::Forward(Box::new(Item {
        kind: ItemKind::LateScores,
        scores: None,
        trace_id: None,
        bytes: payload.len(),
        result,
    }))
}

fn score(found: SourceItem, scorer: &Scorer) -> SourceItem {
    let SourceItem::Forward(mut item) = found else {
        return found;
    };
    item.scores = ItemScores::of(&item.result, scorer);
    match item.scores {
        Some(_) => SourceItem::Forward(item),
        None => SourceItem::Skip,
    }
}
