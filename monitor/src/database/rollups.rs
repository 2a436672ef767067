//! Refreshes the rollups soon after rows change.
//!
//! The views also refresh on a slow schedule (`0012_refresh_on_change.sql`). A schedule as fast as [`MIN_INTERVAL`] would
//! cost an idle ClickHouse more than all its other work.
//!
//! A refresh computes a bounded number of minutes, hours and days (`0010_days.sql`). An import of old rows changes more,
//! so refreshes follow each other until few are left.

use std::convert::Infallible;
use std::time::Duration;

use clickhouse::error::Error;
use tokio_util::sync::CancellationToken;

use super::Database;
use super::connection::TIMEOUT;

/// Shortest time between two refreshes.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two looks for changes that nothing announced: rows that another program inserted.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Pause between two refreshes during a large backlog. Leaves ClickHouse time for queries.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(1);

/// Counts minutes, hours and days whose rollups lack changes.
const BACKLOG: &str = "
WITH
minutes AS (SELECT minute, max(version) AS version FROM prediction_minutes
    WHERE minute IN (SELECT minute FROM dirty_minutes) GROUP BY minute),
hours AS (SELECT minute AS hour, max(version) AS version FROM prediction_hours GROUP BY hour),
days AS (SELECT minute AS day, max(version) AS version FROM prediction_days GROUP BY day)
SELECT assumeNotNull(
    (SELECT count()
        FROM (SELECT minute, max(marked_at) AS at FROM dirty_minutes GROUP BY minute) AS changed
        LEFT JOIN minutes AS done ON done.minute = changed.minute WHERE changed.at > done.version)
    + (SELECT count()
        FROM (SELECT toDateTime(toStartOfHour(minute), 'UTC') AS hour, max(version) AS at FROM minutes GROUP BY hour)
            AS changed
        LEFT JOIN hours AS done ON done.hour = changed.hour WHERE changed.at > done.version)
    + (SELECT count()
        FROM (SELECT toDateTime(toStartOfDay(hour), 'UTC') AS day, max(version) AS at FROM hours GROUP BY day) AS changed
        LEFT JOIN days AS done ON done.day = changed.day WHERE changed.at > done.version))";

/// Largest backlog that waits for the next change, or for the views' own schedule. A backlog of rows that are stored now
/// is smaller.
const SMALL_BACKLOG: u64 = 24;

/// The views in dependency order: hours are sums of minutes, and days are sums of hours.
const VIEWS: [&str; 3] = [
    "prediction_minutes_view",
    "prediction_hours_view",
    "prediction_days_view",
];

/// Refreshes the rollups after every change, at most once per [`MIN_INTERVAL`], until shutdown.
pub(crate) async fn run(database: Database, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        never = refresh_on_change(&database) => match never {},
    }
}

async fn refresh_on_change(database: &Database) -> Infallible {
    loop {
        if tokio::time::timeout(LOOK_INTERVAL, database.changed())
            .await
            .is_err()
            && backlog(database).await <= SMALL_BACKLOG
        {
            continue;
        }
        let mut left = None;
        loop {
            refresh(database).await;
            let before = left.replace(backlog(database).await);
            // Minutes whose rows are gone stay marked: refreshing again would not end.
            if left <= Some(SMALL_BACKLOG) || left == before {
                break;
            }
            tokio::time::sleep(BACKLOG_INTERVAL).await;
        }
        tokio::time::sleep(MIN_INTERVAL).await;
    }
}

/// Returns the number of minutes, hours and days whose rollups lack changes; 0 if ClickHouse does not answer.
async fn backlog(database: &Database) -> u64 {
    let count = database.client.query_raw(BACKLOG).fetch_one::<u64>();
    match tokio::time::timeout(TIMEOUT, count).await {
        Ok(Ok(count)) => count,
        Ok(Err(error)) => {
            tracing::debug!(%error, "counting outdated rollups failed; the schedule catches up");
            0
        }
        Err(_) => 0,
    }
}

async fn refresh(database: &Database) {
    match tokio::time::timeout(TIMEOUT, refresh_views(database)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "refreshing rollups failed; the schedule catches up"),
        Err(_) => tracing::debug!("refreshing rollups timed out; the schedule catches up"),
    }
}

async fn refresh_views(database: &Database) -> Result<(), Error> {
    for view in VIEWS {
        for statement in ["SYSTEM REFRESH VIEW", "SYSTEM WAIT VIEW"] {
            let query = database.client.query_raw(&format!("{statement} {view}"));
            query.execute().await?;
        }
    }
    Ok(())
}
