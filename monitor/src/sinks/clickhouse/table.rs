//! Blocks into the table, however often it takes.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;
use tokio::time::Instant;

use clickhouse::error::Error;
use precis_runtime::admin::Readiness;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::block::{Block, Insert, InsertError};
use super::fault;
use crate::backoff::Backoff;
use crate::database::{Database, explain, is_refusal_of_content, refusal};
use crate::metrics;
use crate::row::{PredictionRow, TABLE};

/// Which of these predictions are there already, in any version. A result has one place in the stream and one time, so
/// that a range of the primary key and a range of numbers find it, or, when most numbers of the range are not asked for, a
/// set of them. Comparing the ids is left to whoever asks.
const STORED_WITHIN: &str = "SELECT DISTINCT toUnixTimestamp64Milli(finished_at) AS finished_ms, job_id
FROM prediction_versions
WHERE finished_at BETWEEN fromUnixTimestamp64Milli(?, 'UTC') AND fromUnixTimestamp64Milli(?, 'UTC')
    AND result_sequence BETWEEN ? AND ?";

/// As [`STORED_WITHIN`], of a set.
const STORED: &str = "SELECT DISTINCT toUnixTimestamp64Milli(finished_at) AS finished_ms, job_id
FROM prediction_versions
WHERE finished_at BETWEEN fromUnixTimestamp64Milli(?, 'UTC') AND fromUnixTimestamp64Milli(?, 'UTC')
    AND result_sequence IN ?";

/// A range that is looked up as one has at most so many numbers for each that is asked for: other monitors have the rest.
const SPARSEST_RANGE: u64 = 8;

/// Marks minutes, given in seconds since 1970.
const MARK: &str = "INSERT INTO dirty_minutes (minute, marked_at)
SELECT toDateTime(arrayJoin(CAST(?, 'Array(UInt32)')), 'UTC'), now64(3)";

/// How long the open block is waited for after the word to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// The table of predictions.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
    /// Longest that an insert, or a look into the table, may take before it counts as failed.
    patience: Duration,
}

impl Store {
    /// The table, with inserts that are given up after half of `ack_wait`.
    pub(crate) fn new(database: Database, ack_wait: Duration) -> Self {
        Self {
            database,
            patience: ack_wait / 2,
        }
    }

    /// Address without credentials, for people.
    pub(crate) fn address(&self) -> &str {
        &self.database.address
    }

    /// The database.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Longest that a statement may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Stores what of the block is not stored yet; false when the word to stop came while that could not be done.
    pub(super) async fn until_stored(
        &self,
        block: &mut Block,
        readiness: &Readiness,
        stop: &CancellationToken,
    ) -> bool {
        let stored = tokio::select! {
            stored = self.insert_all(block, readiness, stop) => stored,
            () = drained(stop) => false,
        };
        if stored {
            fault::die_before_acknowledging(block);
        }
        stored
    }

    async fn insert_all(&self, block: &mut Block, readiness: &Readiness, stop: &CancellationToken) -> bool {
        let mut backoff = Backoff::default();
        loop {
            // Looked at before the try, so that there is one more after the word to stop.
            let last = stop.is_cancelled();
            match block.settle(self).await {
                Ok(()) => {
                    if !readiness.get() {
                        tracing::info!("ClickHouse takes rows again");
                        readiness.set(true);
                    }
                    return true;
                }
                Err(error) => {
                    readiness.set(false);
                    if last {
                        return false;
                    }
                    metrics::retry();
                    tracing::warn!(
                        clickhouse = self.database.address,
                        %error,
                        "ClickHouse does not take rows; they wait in the stream"
                    );
                    backoff.wait_or_stop(stop).await;
                }
            }
        }
    }

    async fn look_up(&self, rows: &[PredictionRow]) -> Result<HashSet<(i64, String)>, Error> {
        let times = || rows.iter().map(|row| row.finished_at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            return Ok(HashSet::new());
        };
        let sequences: Vec<u64> = rows.iter().map(|row| row.result_sequence).collect();
        let client = &self.database.client;
        let query = match range_of(&sequences) {
            // A set of two thousand numbers takes the server twice as long: it is parsed, and built.
            Some((least, greatest)) => client
                .query(STORED_WITHIN)
                .bind(first)
                .bind(last)
                .bind(least)
                .bind(greatest),
            None => client
                .query(STORED)
                .bind(first)
                .bind(last)
                .bind(sequences)
                // A block may hold more numbers than the server takes by default in one text.
                .with_setting("max_query_size", "67108864")
                .with_setting("max_ast_elements", "1000000")
                .with_setting("max_expanded_ast_elements", "1000000"),
        };
        let found = timeout(self.patience, query.fetch_all::<(i64, String)>()).await;
        Ok(found.map_err(|_| Error::TimedOut)??.into_iter().collect())
    }

    async fn insert_block(&self, rows: &[PredictionRow], token: &str) -> Result<(), Error> {
        let lookup = self.database.client.insert::<PredictionRow>(TABLE);
        let begun = timeout(self.patience, lookup).await;
        let mut insert = begun
            .map_err(|_| Error::TimedOut)??
            .with_timeouts(Some(self.patience), Some(self.patience))
            .with_setting("insert_deduplication_token", token)
            // An insert that was given up here must not go on there for long: see the module of the sink.
            .with_setting("max_execution_time", self.patience.as_secs_f64().to_string())
            // Confirmed means stored, whatever the server's default.
            .with_setting("async_insert", "0")
            // A result brings its own time, so one block may touch many months.
            .with_setting("max_partitions_per_insert_block", "0");
        for row in rows {
            insert.write(row).await?;
        }
        timeout(self.patience, insert.end())
            .await
            .map_err(|_| Error::TimedOut)?
    }
}

/// The least and the greatest of these numbers, unless there are too many between them that are not among them.
fn range_of(sequences: &[u64]) -> Option<(u64, u64)> {
    let (least, greatest) = (*sequences.iter().min()?, *sequences.iter().max()?);
    let most = SPARSEST_RANGE.saturating_mul(sequences.len() as u64);
    (greatest - least < most).then_some((least, greatest))
}

/// The minutes of rows, in seconds since 1970, each once.
fn minutes_of(rows: &[PredictionRow]) -> BTreeSet<u32> {
    let minute = |row: &PredictionRow| u32::try_from(row.finished_at.div_euclid(60_000) * 60).ok();
    rows.iter().filter_map(minute).collect()
}

/// Comes when a stopping process can't wait for ClickHouse any longer.
async fn drained(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}

impl Insert for Store {
    async fn stored(&self, rows: &[PredictionRow]) -> Result<Vec<bool>, InsertError> {
        match self.look_up(rows).await {
            Ok(found) => {
                let is_there = |row: &PredictionRow| found.contains(&(row.finished_at, row.job_id.clone()));
                Ok(rows.iter().map(is_there).collect())
            }
            Err(error) => Err(InsertError::Unavailable(explain(&error))),
        }
    }

    async fn insert(&self, rows: &[PredictionRow], token: &str) -> Result<(), InsertError> {
        let begun = Instant::now();
        let outcome = self.insert_block(rows, token).await;
        metrics::insert(begun.elapsed(), outcome.is_ok().then_some(rows.len()));
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if is_refusal_of_content(&error) => Err(InsertError::Refused(refusal(&error))),
            Err(error) => {
                // The table may have been changed: its columns are looked up again.
                self.database.client.clear_cached_metadata().await;
                Err(InsertError::Unavailable(explain(&error)))
            }
        }
    }

    async fn mark(&self, rows: &[PredictionRow]) -> Result<(), InsertError> {
        let minutes: Vec<u32> = minutes_of(rows).into_iter().collect();
        let query = self.database.client.query(MARK).bind(minutes);
        let marked = timeout(self.patience, query.execute()).await;
        marked
            .unwrap_or(Err(Error::TimedOut))
            .map_err(|error| InsertError::Unavailable(explain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_that_lie_far_apart_are_no_range() {
        assert_eq!(range_of(&[7, 5, 6]), Some((5, 7)));
        assert_eq!(range_of(&[9]), Some((9, 9)));
        assert_eq!(range_of(&[1, 16]), Some((1, 16)));
        assert_eq!(range_of(&[1, 17]), None);
        assert_eq!(range_of(&[0, u64::MAX]), None);
        assert_eq!(range_of(&[]), None);
    }
}
