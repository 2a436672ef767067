//! References that came after their jobs: their scores go where the predictions went.

use std::sync::Arc;

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use futures::future::join_all;
use precis_runtime::results::Results;
use precis_runtime::topology;
use precis_schemas::reference::LateReference;
use precis_schemas::topology::REFERENCES;
use precis_schemas::{Outcome, subject};

use super::http::SendError;
use super::item::{Item, Kind, Scores};
use super::payload::Target;
use super::sampling::is_chosen;
use super::source::{Read, Source};
use crate::consumer::Delivered;
use crate::row::Scorer;

/// The stream `REFERENCES`. The summaries are taken from `RESULTS`.
#[derive(Debug, Clone)]
pub(crate) struct References {
    /// Where the streams are.
    pub(crate) jetstream: jetstream::Context,
}

impl Source for References {
    async fn read(&self, messages: Arc<Vec<Delivered>>, sampling_rate: f64) -> Option<Vec<Read>> {
        let results = Results::open(&self.jetstream).await.ok()?;
        let stream = topology::stream(&self.jetstream, REFERENCES).await.ok()?;
        let finding = messages
            .iter()
            .map(|one| find(one, sampling_rate, &results, &stream));
        let found = join_all(finding).await;
        // Scores are arithmetic over whole texts: not on the threads that serve the network.
        let scoring = tokio::task::spawn_blocking(|| {
            let scorer = Scorer::default();
            found.into_iter().map(|read| score(read, &scorer)).collect()
        });
        scoring.await.ok()
    }
}

/// The prediction of a reference, if it was forwarded.
async fn find(one: &Delivered, sampling_rate: f64, results: &Results, stream: &Stream) -> Read {
    let payload = &one.message.payload;
    // What can't be read is left to the sink of ClickHouse, as with results.
    let Ok(late) = serde_json::from_slice::<LateReference>(payload) else {
        return Read::Skip;
    };
    // A reference that waited must not take the place of a later one of the same job.
    let subject = subject::reference_of(&late.id);
    let latest = stream.get_last_raw_message_by_subject(&subject);
    if latest.await.is_ok_and(|latest| latest.sequence > one.sequence) {
        return Read::Skip;
    }
    let mut result = match results.get(&late.id).await {
        Ok(Some(stored)) => stored.result,
        // Not finished yet; or finished long ago, so that its result is gone, which giving up ends.
        Ok(None) => return Read::NotYet,
        Err(error) => {
            tracing::debug!(job = %late.id, %error, "the prediction of a reference could not be looked up");
            return Read::NotYet;
        }
    };
    let owned = result.tenant == late.tenant;
    if !owned || result.outcome != Outcome::Succeeded || !is_chosen(&result, sampling_rate) {
        return Read::Skip;
    }
    result.reference = Some(late.reference);
    Read::Item(Box::new(Item {
        kind: Kind::LateScores,
        scores: None,
        trace_id: None,
        bytes: payload.len(),
        result,
    }))
}

fn score(found: Read, scorer: &Scorer) -> Read {
    let Read::Item(mut item) = found else {
        return found;
    };
    item.scores = Scores::of(&item.result, scorer);
    match item.scores {
        Some(_) => Read::Item(item),
        None => Read::Skip,
    }
}

/// A receiver of late scores: the one of the predictions under a name of its own, in metrics and dead letters.
#[derive(Debug)]
pub(crate) struct OfReferences<T> {
    /// The receiver.
    pub(crate) target: T,
    /// Its name as a receiver of late scores.
    pub(crate) name: &'static str,
}

impl<T: Target> Target for OfReferences<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn most_in_request(&self) -> usize {
        self.target.most_in_request()
    }

    fn concurrency(&self) -> usize {
        self.target.concurrency()
    }

    fn wants(&self, item: &Item) -> bool {
        self.target.wants(item)
    }

    fn refusal(&self, item: &Item) -> Option<String> {
        self.target.refusal(item)
    }

    async fn send(&self, items: &[&Item]) -> Result<(), SendError> {
        self.target.send(items).await
    }
}
