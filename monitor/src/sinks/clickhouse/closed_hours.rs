//! Closed hours: hours whose rollups can't be recomputed.
//!
//! The rollup of an hour is the sum of its minute rollups. Those expire long before the hour and its predictions do.

use std::collections::{BTreeSet, HashSet};

use clickhouse::Client;
use clickhouse::error::Result;
use precis_runtime::clock;

use crate::row::PredictionRow;

/// Minute rollups of this age always exist: they are kept for at least three days.
const ALWAYS_KEPT_MS: i64 = 2 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// Hours, in seconds since 1970, whose minute rollups count fewer predictions than are stored.
const CLOSED: &str = "SELECT toInt64(toUnixTimestamp(there.hour))
FROM
(
    SELECT toStartOfHour(finished_at) AS hour, uniqExact(finished_at, job_id) AS predictions
    FROM prediction_versions
    WHERE toStartOfHour(finished_at) IN (SELECT toDateTime(arrayJoin(CAST(?, 'Array(UInt32)')), 'UTC'))
    GROUP BY hour
) AS there
LEFT JOIN
(
    SELECT toStartOfHour(minute) AS hour, sum(predictions) AS predictions
    FROM prediction_minutes FINAL
    WHERE toStartOfHour(minute) IN (SELECT toDateTime(arrayJoin(CAST(?, 'Array(UInt32)')), 'UTC'))
    GROUP BY hour
) AS counted ON counted.hour = there.hour
WHERE counted.predictions < there.predictions";

/// The hour in which a prediction ended, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Hour(i64);

impl Hour {
    pub(super) fn of(row: &PredictionRow) -> Self {
        Self(row.finished_at.div_euclid(HOUR_MS))
    }

    /// Returns the hour that starts at `seconds` since 1970.
    fn from_seconds(seconds: i64) -> Self {
        Self(seconds.div_euclid(HOUR_MS / 1_000))
    }

    fn seconds(self) -> Option<u32> {
        u32::try_from(self.0 * (HOUR_MS / 1_000)).ok()
    }
}

/// Returns which hours of these rows are closed. Recomputing one of their minutes would drop the expired minutes from
/// the hour's rollup.
///
/// # Errors
/// When ClickHouse does not answer.
pub(super) async fn closed<'a>(
    client: &Client,
    rows: impl Iterator<Item = &'a PredictionRow>,
) -> Result<HashSet<Hour>> {
    let old = clock::now().as_millisecond() - ALWAYS_KEPT_MS;
    let hours: BTreeSet<Hour> = rows.filter(|row| row.finished_at < old).map(Hour::of).collect();
    let seconds: Vec<u32> = hours.into_iter().filter_map(Hour::seconds).collect();
    if seconds.is_empty() {
        return Ok(HashSet::new());
    }
    let query = client.query(CLOSED).bind(&seconds).bind(&seconds);
    let found = query.fetch_all::<i64>().await?;
    Ok(found.into_iter().map(Hour::from_seconds).collect())
}
