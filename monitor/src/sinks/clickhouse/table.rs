//! The table of predictions: lookups, inserts, and marks of minutes.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use clickhouse::error::Error;
use precis_runtime::admin::Readiness;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::block::{Block, Insert, InsertError};
use super::fault;
use crate::database::{Database, backoff, explain, is_content_rejection, rejection};
use crate::row::{PredictionRow, TABLE};
use crate::{metrics, status};

/// Finds which predictions of a range are stored, in any version.
///
/// A result has one sequence and one time, so a range of the primary key and a range of sequences find it. If the range
/// is sparse, [`STORED`] takes a set of sequences instead. The caller compares job ids.
const STORED_WITHIN: &str = "SELECT DISTINCT toUnixTimestamp64Milli(finished_at) AS finished_ms, job_id
FROM prediction_versions
WHERE finished_at BETWEEN fromUnixTimestamp64Milli(?, 'UTC') AND fromUnixTimestamp64Milli(?, 'UTC')
    AND result_sequence BETWEEN ? AND ?";

/// Like [`STORED_WITHIN`], for a set of sequences.
const STORED: &str = "SELECT DISTINCT toUnixTimestamp64Milli(finished_at) AS finished_ms, job_id
FROM prediction_versions
WHERE finished_at BETWEEN fromUnixTimestamp64Milli(?, 'UTC') AND fromUnixTimestamp64Milli(?, 'UTC')
    AND result_sequence IN ?";

/// A range is sparse if it spans more than this many sequences per row, which happens with several monitors.
const MAX_RANGE_PER_ROW: u64 = 8;

/// Marks minutes, given in seconds since 1970, for recomputation of their rollups.
const MARK: &str = "INSERT INTO dirty_minutes (minute, marked_at)
SELECT toDateTime(arrayJoin(CAST(?, 'Array(UInt32)')), 'UTC'), now64(3)";

/// Name of the sink in its status.
const SINK: &str = "clickhouse";

/// How long the open block may take after shutdown began.
const DRAIN: Duration = Duration::from_secs(10);

/// The table of predictions. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PredictionTable {
    database: Database,
    /// Longest time for a lookup or an insert.
    timeout: Duration,
}

impl PredictionTable {
    /// Creates the table. An insert may take half of `ack_wait`.
    pub(crate) fn new(database: Database, ack_wait: Duration) -> Self {
        Self {
            database,
            timeout: ack_wait / 2,
        }
    }

    /// Returns the address without credentials.
    pub(crate) fn address(&self) -> &str {
        &self.database.address
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the longest time for a statement.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Inserts the rows of the block that ClickHouse does not have, retrying until it accepts them. Returns `false` if
    /// shutdown interrupts.
    pub(super) async fn store(
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
            self.database.report_change();
            fault::die_before_acknowledging(block);
        }
        stored
    }

    async fn insert_all(&self, block: &mut Block, readiness: &Readiness, stop: &CancellationToken) -> bool {
        let mut backoff = backoff();
        loop {
            // Checked before the attempt, so that one more attempt follows the start of shutdown.
            let last = stop.is_cancelled();
            match block.insert_into(self).await {
                Ok(()) => {
                    status::attempted(SINK, None);
                    if !readiness.get() {
                        tracing::info!("ClickHouse accepts rows again");
                        readiness.set(true);
                    }
                    return true;
                }
                Err(error) => {
                    readiness.set(false);
                    status::attempted(SINK, Some(&error.to_string()));
                    if last {
                        return false;
                    }
                    metrics::retry();
                    tracing::warn!(
                        clickhouse = self.database.address,
                        %error,
                        "insert failed; results wait in the stream; retrying"
                    );
                    backoff.wait(stop).await;
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
            // The server needs twice as long to parse and build a set of 2000 sequences.
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
                // A block may hold more sequences than a query may by default.
                .with_setting("max_query_size", "67108864")
                .with_setting("max_ast_elements", "1000000")
                .with_setting("max_expanded_ast_elements", "1000000"),
        };
        let found = time::timeout(self.timeout, query.fetch_all::<(i64, String)>()).await;
        Ok(found.map_err(|_| Error::TimedOut)??.into_iter().collect())
    }

    async fn insert_block(&self, rows: &[PredictionRow], token: &str) -> Result<(), Error> {
        let start = self.database.client.insert::<PredictionRow>(TABLE);
        let started = time::timeout(self.timeout, start).await;
        let mut insert = started
            .map_err(|_| Error::TimedOut)??
            .with_timeouts(Some(self.timeout), Some(self.timeout))
            .with_setting("insert_deduplication_token", token)
            // An abandoned insert must not continue on the server for long: see the module of the sink for results.
            .with_setting("max_execution_time", self.timeout.as_secs_f64().to_string())
            // A confirmed insert must be stored, whatever the server's default.
            .with_setting("async_insert", "0")
            // Results carry their own time, so one block may span many months.
            .with_setting("max_partitions_per_insert_block", "0");
        for row in rows {
            insert.write(row).await?;
        }
        time::timeout(self.timeout, insert.end())
            .await
            .map_err(|_| Error::TimedOut)?
    }
}

/// Returns the least and the greatest of these sequences, or `None` if the range is sparse.
fn range_of(sequences: &[u64]) -> Option<(u64, u64)> {
    let (least, greatest) = (*sequences.iter().min()?, *sequences.iter().max()?);
    let most = MAX_RANGE_PER_ROW.saturating_mul(sequences.len() as u64);
    (greatest - least < most).then_some((least, greatest))
}

/// Returns the minutes of these rows, in seconds since 1970.
fn minutes_of(rows: &[PredictionRow]) -> BTreeSet<u32> {
    let minute = |row: &PredictionRow| u32::try_from(row.finished_at.div_euclid(60_000) * 60).ok();
    rows.iter().filter_map(minute).collect()
}

/// Completes when shutdown can't wait for ClickHouse any longer.
async fn drained(stop: &CancellationToken) {
    stop.cancelled().await;
    time::sleep(DRAIN).await;
}

impl Insert for PredictionTable {
    async fn stored(&self, rows: &[PredictionRow]) -> Result<Vec<bool>, InsertError> {
        match self.look_up(rows).await {
            Ok(found) => {
                let is_stored = |row: &PredictionRow| found.contains(&(row.finished_at, row.job_id.clone()));
                Ok(rows.iter().map(is_stored).collect())
            }
            Err(error) => Err(InsertError::Unavailable(explain(&error))),
        }
    }

    async fn insert(&self, rows: &[PredictionRow], token: &str) -> Result<(), InsertError> {
        let start = Instant::now();
        let outcome = self.insert_block(rows, token).await;
        metrics::insert(start.elapsed(), outcome.is_ok().then_some(rows.len()));
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if is_content_rejection(&error) => Err(InsertError::Rejected(rejection(&error))),
            Err(error) => {
                // The table may have changed: look up its columns again.
                self.database.client.clear_cached_metadata().await;
                Err(InsertError::Unavailable(explain(&error)))
            }
        }
    }

    async fn mark(&self, rows: &[PredictionRow]) -> Result<(), InsertError> {
        let minutes: Vec<u32> = minutes_of(rows).into_iter().collect();
        let query = self.database.client.query(MARK).bind(minutes);
        let marked = time::timeout(self.timeout, query.execute()).await;
        marked
            .unwrap_or(Err(Error::TimedOut))
            .map_err(|error| InsertError::Unavailable(explain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_sequences_are_not_a_range() {
        assert_eq!(range_of(&[7, 5, 6]), Some((5, 7)));
        assert_eq!(range_of(&[9]), Some((9, 9)));
        assert_eq!(range_of(&[1, 16]), Some((1, 16)));
        assert_eq!(range_of(&[1, 17]), None);
        assert_eq!(range_of(&[0, u64::MAX]), None);
        assert_eq!(range_of(&[]), None);
    }
}
