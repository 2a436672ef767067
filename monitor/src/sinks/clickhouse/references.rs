//! The sink for late references: reads the prediction, scores it, and stores it as a later version.
//!
//! The summary comes from the job's result, or from the row if the result has expired and the row holds the whole summary.
//! If the summary is no longer kept, the stored scores stay, and the reference goes to `DEAD`. A job that failed never
//! had a summary: its reference is stored without scores. A reference that arrives before its prediction waits in the
//! stream.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use clickhouse::error::Error;
use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::results::{ResultError, Results};
use precis_runtime::topology::TopologyError;
use precis_schemas::decode_error::describe_field;
use precis_schemas::reference::LateReference;
use precis_schemas::topology::{REFERENCE_TTL, clickhouse_references_consumer};
use precis_schemas::{JobId, Outcome};
use tokio::time::timeout;

use super::block::Block;
use super::closed_hours::{self, Hour};
use super::context::SinkContext;
use super::settle::{DeliveryOutcome, settle};
use crate::consumer::{Delivery, InFlight};
use crate::database::explain;
use crate::metrics;
use crate::row::{PredictionRow, Scorer, TextFilter, version_of};
use crate::sinks::dead_letters::SinkDeadLetters;

/// Name of the sink in metrics.
pub(super) const SINK: &str = "clickhouse-references";
/// Most references in one block.
const MAX_BLOCK: usize = 200;
/// How long a reference waits for its prediction before it goes to `DEAD`: a day less than the stream keeps it.
const MAX_WAIT: Duration = REFERENCE_TTL.saturating_sub(Duration::from_secs(24 * 3600));

/// The latest prediction of each job, in its latest version.
const LATEST: &str = "SELECT ?fields FROM prediction_versions
WHERE job_id IN ?
ORDER BY finished_at DESC, version DESC
LIMIT 1 BY job_id";

/// Stores late references until shutdown.
///
/// # Errors
/// When the consumer can't be created at the start. Later failures are retried.
pub(crate) async fn run(context: SinkContext) -> Result<(), TopologyError> {
    let consumer = context.consumer(clickhouse_references_consumer());
    let dead_letters = SinkDeadLetters::new(&consumer, SINK, context.settings.texts);
    let max_block = context.settings.max_block_rows.min(MAX_BLOCK);
    let mut pull = context.pull(consumer, max_block).await?;
    let sink = ReferenceSink {
        context,
        dead_letters,
    };
    while let Some(in_flight) = pull.next().await {
        // On shutdown JetStream redelivers the references after the ack wait.
        let _stopped = sink.store(&in_flight).await;
    }
    Ok(())
}

struct ReferenceSink {
    context: SinkContext,
    dead_letters: SinkDeadLetters,
}

impl ReferenceSink {
    /// Stores the references of one pull and settles them. Returns `None` on shutdown.
    async fn store(&self, in_flight: &InFlight) -> Option<()> {
        let deliveries = in_flight.deliveries();
        let mut outcomes: Vec<DeliveryOutcome> = deliveries.iter().map(|_| DeliveryOutcome::Done).collect();
        // A job's earlier references are superseded by its latest.
        let mut labels = vec!["superseded"; deliveries.len()];
        let latest = latest_of_each(deliveries, &mut outcomes);
        let rows = self.rows(latest.keys()).await?;
        let closed = self.closed_hours(&rows).await?;
        let (mut updated, mut positions, mut delivery_of_row, mut unmarked) =
            (vec![], vec![], vec![], vec![]);
        for (id, (index, reference)) in latest {
            let delivery = &deliveries[index];
            let published_at = delivery.position.published_at;
            let reject = |reason: &str| DeliveryOutcome::DeadLetter(reason.into());
            match rows.get(id.as_str()) {
                None if published_at.duration_until(clock::now()).unsigned_abs() > MAX_WAIT => {
                    outcomes[index] = reject("there is no prediction of this job");
                }
                None => {
                    metrics::reference_waits();
                    outcomes[index] = DeliveryOutcome::Wait;
                }
                Some(row) if row.tenant != reference.tenant.as_str() => {
                    outcomes[index] = reject("the job belongs to another tenant");
                }
                Some(row) if row.version >= version_of(published_at) => {
                    if row.version == version_of(published_at) {
                        labels[index] = "repeated";
                    }
                    // The process that stored the row may have died before it marked the row's minute.
                    if delivery.attempt > 1 && !closed.contains(&Hour::of(row)) {
                        unmarked.push(row.clone());
                    }
                }
                Some(row) if closed.contains(&Hour::of(row)) => {
                    outcomes[index] =
                        reject("the prediction is too old: the minute rollups of its hour have expired");
                }
                Some(row) => match self.update(row.clone(), &reference, published_at).await? {
                    Err(reason) => outcomes[index] = reject(reason),
                    Ok(row) => {
                        let has_summary = row.outcome == Outcome::Succeeded.as_str();
                        labels[index] = if has_summary { "scored" } else { "unscored" };
                        updated.push(row);
                        positions.push(delivery.position);
                        delivery_of_row.push(index);
                    }
                },
            }
        }
        let mut block = Block::of_versions("references", updated, positions).with_unmarked(unmarked);
        let SinkContext {
            table,
            readiness,
            stop,
            ..
        } = &self.context;
        if !table.store(&mut block, readiness, stop).await {
            return None;
        }
        for (row, reason) in block.rejected() {
            let reason = format!("ClickHouse rejects the row: {reason}");
            outcomes[delivery_of_row[*row]] = DeliveryOutcome::DeadLetter(reason);
        }
        for (label, outcome) in labels.iter_mut().zip(&outcomes) {
            if matches!(outcome, DeliveryOutcome::DeadLetter(_)) {
                *label = "refused";
            }
        }
        // A reference counts when it is settled for good, so a redelivered one counts once.
        for index in settle(deliveries, outcomes, &self.dead_letters).await {
            metrics::reference(labels[index]);
        }
        Some(())
    }

    /// Returns the current rows of these jobs, by job. Returns `None` on shutdown.
    async fn rows<'a>(&self, ids: impl Iterator<Item = &'a JobId>) -> Option<HashMap<String, PredictionRow>> {
        let ids: Vec<&str> = ids.map(JobId::as_str).collect();
        if ids.is_empty() {
            return Some(HashMap::new());
        }
        let client = &self.context.table.database().client;
        let rows = self
            .query(|| client.query(LATEST).bind(&ids).fetch_all::<PredictionRow>())
            .await?;
        Some(rows.into_iter().map(|row| (row.job_id.clone(), row)).collect())
    }

    /// Returns the hours of these rows that are closed. Returns `None` on shutdown.
    async fn closed_hours(&self, rows: &HashMap<String, PredictionRow>) -> Option<HashSet<Hour>> {
        let client = &self.context.table.database().client;
        self.query(|| closed_hours::closed(client, rows.values())).await
    }

    /// Repeats a query until ClickHouse answers. Returns `None` on shutdown.
    async fn query<T, F>(&self, query: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let attempt = || async {
            let answer = timeout(self.context.table.timeout(), query()).await;
            answer
                .unwrap_or(Err(Error::TimedOut))
                .map_err(|error| explain(&error))
        };
        self.context
            .retry("predictions of late references not read", attempt)
            .await
    }

    /// Returns the row with the reference and its scores, or why there is none. Returns `None` on shutdown.
    async fn update(
        &self,
        row: PredictionRow,
        reference: &LateReference,
        published_at: Timestamp,
    ) -> Option<Result<PredictionRow, &'static str>> {
        let texts = TextFilter::new(&self.context.settings);
        if reference.reference.trim().is_empty() {
            return Some(Err("the reference is empty"));
        }
        if row.outcome != Outcome::Succeeded.as_str() {
            // The job has no summary, so there are no scores to lose.
            return Some(Ok(row.with_reference(
                &reference.reference,
                published_at,
                None,
                texts,
            )));
        }
        let Some(summary) = self.summary(&row, &reference.id).await? else {
            return Some(Err("the summary of the job is no longer kept"));
        };
        let text = reference.reference.clone();
        // Scoring is CPU-bound, so it runs off the threads that serve the network.
        let scoring = tokio::task::spawn_blocking(move || Scorer::default().scores(&text, &summary));
        Some(match scoring.await {
            Ok(Some(scores)) => {
                Ok(row.with_reference(&reference.reference, published_at, Some(scores), texts))
            }
            Ok(None) => Err("the reference is too long to be compared with the summary"),
            Err(_) => Err("bug: the reference could not be compared with the summary"),
        })
    }

    /// Returns the whole summary of a prediction, if it is still kept. Returns `None` on shutdown.
    async fn summary(&self, row: &PredictionRow, id: &JobId) -> Option<Option<String>> {
        if row.has_whole_summary() {
            return Some(Some(row.summary.clone()));
        }
        let find = || async {
            let found = async { Results::open(&self.context.queue.jetstream).await?.get(id).await };
            match found.await {
                // It will never be readable.
                Err(ResultError::Decode { .. }) => Ok(None),
                found => found,
            }
        };
        let stored = self
            .context
            .retry("results of late references not read", find)
            .await?;
        let same = stored.filter(|stored| stored.result.finished_at.as_millisecond() == row.finished_at);
        Some(same.and_then(|stored| stored.result.summary))
    }
}

/// Returns the latest reference of each job with the index of its delivery. Unreadable references become dead letters.
fn latest_of_each(
    deliveries: &[Delivery],
    outcomes: &mut [DeliveryOutcome],
) -> HashMap<JobId, (usize, LateReference)> {
    let mut latest: HashMap<JobId, (usize, LateReference)> = HashMap::new();
    for (index, delivery) in deliveries.iter().enumerate() {
        match serde_json::from_slice::<LateReference>(&delivery.message.payload) {
            Err(error) => {
                let reason = describe_field::<LateReference>(&delivery.message.payload, &error);
                let reason = format!("not a reference of version 1: {reason}");
                outcomes[index] = DeliveryOutcome::DeadLetter(reason);
            }
            Ok(reference) => {
                let known = latest
                    .get(&reference.id)
                    .map(|(known, _)| deliveries[*known].position.sequence);
                if known.is_none_or(|known| known < delivery.position.sequence) {
                    latest.insert(reference.id.clone(), (index, reference));
                }
            }
        }
    }
    latest
}
