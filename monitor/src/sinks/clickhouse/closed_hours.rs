//! Whether the figures of a time can still be computed anew: those of an hour are the sum of its minutes, which are kept
//! for a much shorter time than the hour itself and its predictions.

use std::collections::{BTreeSet, HashSet};

use clickhouse::Client;
use clickhouse::error::Result;
use precis_runtime::clock;

use crate::row::PredictionRow;

/// Younger minutes are kept in any case: at least for three days.
const YOUNG_MS: i64 = 2 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// Hours, given in seconds since 1970, of which figures by minute count fewer predictions than there are.
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

/// The hour of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Hour(i64);

impl Hour {
    pub(super) fn of(row: &PredictionRow) -> Self {
        Self(row.finished_at.div_euclid(HOUR_MS))
    }

    /// The one that begins so many seconds after 1970.
    fn at(seconds: i64) -> Self {
        Self(seconds.div_euclid(HOUR_MS / 1_000))
    }

    fn seconds(self) -> Option<u32> {
        u32::try_from(self.0 * (HOUR_MS / 1_000)).ok()
    }
}

/// Which hours of these rows are closed: their minutes are not all kept, so that computing one of them anew would make the
/// hour forget the others.
///
/// # Errors
/// When ClickHouse can't answer.
pub(super) async fn closed<'a>(
    client: &Client,
    rows: impl Iterator<Item = &'a PredictionRow>,
) -> Result<HashSet<Hour>> {
    let old = clock::now().as_millisecond() - YOUNG_MS;
    let hours: BTreeSet<Hour> = rows.filter(|row| row.finished_at < old).map(Hour::of).collect();
    let seconds: Vec<u32> = hours.into_iter().filter_map(Hour::seconds).collect();
    if seconds.is_empty() {
        return Ok(HashSet::new());
    }
    let query = client.query(CLOSED).bind(&seconds).bind(&seconds);
    let found = query.fetch_all::<i64>().await?;
    Ok(found.into_iter().map(Hour::at).collect())
}
