//! Late references into ClickHouse: the prediction is read, scored, and stored again as a later version.
//!
//! The summary is taken from the job's result, or from the row when the result is kept no longer and the row has the
//! whole of it; without the summary the scores that are there stay, and the reference goes to `DEAD`. A reference that is
//! there before its prediction waits in the stream.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use clickhouse::error::Error;
use jiff::Timestamp;
use precis_runtime::admin::Readiness;
use precis_runtime::boot::NatsConnection;
use precis_runtime::clock;
use precis_runtime::config;
use precis_runtime::results::{ResultError, Results};
use precis_runtime::topology::TopologyError;
use precis_schemas::reference::LateReference;
use precis_schemas::topology::{REFERENCE_TTL, clickhouse_references_consumer};
use precis_schemas::unreadable::why;
use precis_schemas::{JobId, Outcome};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::block::{Block, Place};
use super::closed_hours::{self, Hour};
use super::table::Store;
use crate::backoff::Backoff;
use crate::consumer::{Blocks, InHand, bury};
use crate::consumer::{Delivered, Intake, acknowledge};
use crate::database::explain;
use crate::metrics;
use crate::row::Scorer;
use crate::row::Texts;
use crate::row::{PredictionRow, version_of};

/// Name of the sink in metrics.
pub(super) const SINK: &str = "clickhouse-references";
/// Most references that are worked on together.
const MAX_BLOCK: usize = 200;
/// First pause of a reference without a prediction; it grows with every look, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A reference that has waited this long for its prediction goes to `DEAD`, before the stream forgets it.
const PATIENCE: Duration = REFERENCE_TTL.saturating_sub(Duration::from_secs(24 * 3600));

/// The latest prediction of each job, in its latest version.
const LATEST: &str = "SELECT ?fields FROM prediction_versions
WHERE job_id IN ?
ORDER BY finished_at DESC, version DESC
LIMIT 1 BY job_id";

/// The sink.
#[derive(Debug)]
pub(crate) struct References {
    pub(crate) queue: NatsConnection,
    pub(crate) nats: config::NatsConfig,
    pub(crate) settings: config::MonitorConfig,
    pub(crate) store: Store,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
}

/// What is to be done with a message.
enum Fate {
    /// Nothing more: it is stored, repeats what is, or a later one of the same job is here, too.
    Done,
    /// Its prediction isn't there yet.
    Wait,
    /// It becomes no row, for this reason.
    Bury(String),
}

impl References {
    /// Brings predictions up to date until it is told to stop.
    ///
    /// # Errors
    /// When the consumer can't be set up at the start. Later troubles are waited out.
    pub(crate) async fn run(self) -> Result<(), TopologyError> {
        let settings = config::MonitorConfig {
            max_block_rows: self.settings.max_block_rows.min(MAX_BLOCK),
            ..self.settings.clone()
        };
        let spec = clickhouse_references_consumer();
        let stop = self.stop.clone();
        let mut blocks = Blocks::open(self.queue.clone(), self.nats.clone(), &settings, spec, stop).await?;
        let intake = blocks.intake().clone();
        while let Some(in_hand) = blocks.next().await {
            self.keep(&in_hand, &intake).await;
        }
        Ok(())
    }

    async fn keep(&self, in_hand: &InHand, intake: &Intake) {
        let messages = in_hand.messages();
        let mut fates: Vec<Fate> = messages.iter().map(|_| Fate::Done).collect();
        let latest = latest_of_each(messages, &mut fates);
        let Some(rows) = self.rows(latest.keys()).await else {
            return;
        };
        let Some(closed) = self.closed(&rows).await else {
            return;
        };
        let (mut updated, mut places, mut made_of, mut unmarked) = (vec![], vec![], vec![], vec![]);
        for (id, (index, reference)) in latest {
            let one = &messages[index];
            match rows.get(id.as_str()) {
                None if one.published_at.duration_until(clock::now()).unsigned_abs() > PATIENCE => {
                    fates[index] = Fate::Bury("there is no prediction of this job".into());
                }
                None => {
                    metrics::reference("waiting");
                    fates[index] = Fate::Wait;
                }
                Some(row) if row.tenant != reference.tenant.as_str() => {
                    fates[index] = Fate::Bury("the job is another tenant's".into());
                }
                Some(row) if row.version >= version_of(one.published_at) => {
                    metrics::reference("repeated");
                    // Whoever had it before may have died between the row and the mark of its minute.
                    if one.attempts > 1 && !closed.contains(&Hour::of(row)) {
                        unmarked.push(row.clone());
                    }
                }
                Some(row) if closed.contains(&Hour::of(row)) => {
                    fates[index] = Fate::Bury(
                        "the prediction is too old: figures by minute of its time are no longer kept".into(),
                    );
                }
                Some(row) => match self.updated(row.clone(), &reference, one.published_at).await {
                    None => return,
                    Some(Err(reason)) => fates[index] = Fate::Bury(reason.into()),
                    Some(Ok(row)) => {
                        updated.push(row);
                        places.push(Place {
                            sequence: one.sequence,
                            published_ns: one.published_at.as_nanosecond(),
                        });
                        made_of.push(index);
                    }
                },
            }
        }
        let mut block = Block::of_new("references", updated, places).with_unmarked(unmarked);
        if !self
            .store
            .until_stored(&mut block, &self.readiness, &self.stop)
            .await
        {
            return;
        }
        for (row, reason) in block.refused() {
            fates[made_of[*row]] = Fate::Bury(format!("ClickHouse refuses the row: {reason}"));
        }
        settle(intake, messages, fates).await;
    }

    /// The rows as they are now, by job; none when it is time to stop.
    async fn rows<'a>(&self, ids: impl Iterator<Item = &'a JobId>) -> Option<HashMap<String, PredictionRow>> {
        let ids: Vec<&str> = ids.map(JobId::as_str).collect();
        if ids.is_empty() {
            return Some(HashMap::new());
        }
        let rows = self
            .until_answered(|| {
                self.store
                    .database()
                    .client
                    .query(LATEST)
                    .bind(&ids)
                    .fetch_all::<PredictionRow>()
            })
            .await?;
        Some(rows.into_iter().map(|row| (row.job_id.clone(), row)).collect())
    }

    /// The hours whose figures can't be computed anew; none when it is time to stop.
    async fn closed(&self, rows: &HashMap<String, PredictionRow>) -> Option<HashSet<Hour>> {
        let client = &self.store.database().client;
        self.until_answered(|| closed_hours::closed(client, rows.values()))
            .await
    }

    /// Asks ClickHouse until it answers; nothing when it is time to stop.
    async fn until_answered<T, F>(&self, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut backoff = Backoff::default();
        loop {
            let answer = timeout(self.store.patience(), ask()).await;
            match answer.unwrap_or(Err(Error::TimedOut)) {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    tracing::warn!(
                        error = explain(&error),
                        "predictions can't be read; references wait"
                    );
                    metrics::retry();
                    if backoff.wait_or_stop(&self.stop).await {
                        return None;
                    }
                }
            }
        }
    }

    /// The row with the reference and its scores, or why there is none; nothing when it is time to stop.
    async fn updated(
        &self,
        row: PredictionRow,
        reference: &LateReference,
        at: Timestamp,
    ) -> Option<Result<PredictionRow, &'static str>> {
        let texts = Texts::of(&self.settings);
        if row.outcome != Outcome::Succeeded.as_str() {
            // Nothing to compare it with, and no scores that could get lost.
            metrics::reference("unscored");
            return Some(Ok(row.with_reference(&reference.reference, at, None, texts)));
        }
        let Some(summary) = self.summary(&row, &reference.id).await? else {
            metrics::reference("refused");
            return Some(Err("the summary of the job is no longer kept"));
        };
        let text = reference.reference.clone();
        let work = move || Scorer::default().scores(&text, &summary);
        // Arithmetic over whole texts: not on the threads that serve the network.
        let scored = match tokio::task::spawn_blocking(work).await {
            Ok(Some(scores)) => Ok(row.with_reference(&reference.reference, at, Some(scores), texts)),
            Ok(None) => Err("it is empty, or too long to be compared with the summary"),
            Err(_) => Err("a defect: it could not be compared with the summary"),
        };
        metrics::reference(if scored.is_ok() { "scored" } else { "refused" });
        Some(scored)
    }

    /// The whole summary of a prediction, if it can still be found anywhere; nothing when it is time to stop.
    async fn summary(&self, row: &PredictionRow, id: &JobId) -> Option<Option<String>> {
        if row.has_whole_summary() {
            return Some(Some(row.summary.clone()));
        }
        let mut backoff = Backoff::default();
        let stored = loop {
            let found = async { Results::open(&self.queue.jetstream).await?.get(id).await };
            match found.await {
                Ok(stored) => break stored,
                // It will never be readable.
                Err(ResultError::Decode { .. }) => break None,
                Err(error) => {
                    tracing::warn!(%error, "a result can't be read; references wait");
                    metrics::retry();
                    if backoff.wait_or_stop(&self.stop).await {
                        return None;
                    }
                }
            }
        };
        let same = stored.filter(|stored| stored.result.finished_at.as_millisecond() == row.finished_at);
        Some(same.and_then(|stored| stored.result.summary))
    }
}

/// Does with each message what is to be done.
async fn settle(intake: &Intake, messages: &[Delivered], fates: Vec<Fate>) {
    let mut done = Vec::new();
    for (one, fate) in messages.iter().zip(fates) {
        match fate {
            Fate::Done => done.push(one),
            Fate::Wait => {
                let looks = u32::try_from(one.attempts).unwrap_or(u32::MAX);
                let pause = FIRST_PAUSE.saturating_mul(looks).min(LONGEST_PAUSE);
                one.hand_back(Some(pause)).await;
            }
            Fate::Bury(reason) => {
                if bury(intake, SINK, one, reason).await {
                    done.push(one);
                }
            }
        }
    }
    acknowledge(done).await;
}

/// The latest reference of each job with the index of its message; what can't be read is to be buried.
fn latest_of_each(messages: &[Delivered], fates: &mut [Fate]) -> HashMap<JobId, (usize, LateReference)> {
    let mut latest: HashMap<JobId, (usize, LateReference)> = HashMap::new();
    for (index, one) in messages.iter().enumerate() {
        match serde_json::from_slice::<LateReference>(&one.message.payload) {
            Err(error) => {
                fates[index] = Fate::Bury(format!("not a reference of version 1: {}", why(&error)));
            }
            Ok(reference) => {
                let known = latest
                    .get(&reference.id)
                    .map(|(known, _)| messages[*known].sequence);
                if known.is_none_or(|known| known < one.sequence) {
                    latest.insert(reference.id.clone(), (index, reference));
                }
            }
        }
    }
    latest
}
