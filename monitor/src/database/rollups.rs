//! Refreshes the rollups soon after rows change.
//!
//! The views also refresh on a slow schedule (`0012_refresh_on_change.sql`). A schedule as fast as [`MIN_INTERVAL`] would
//! cost an idle ClickHouse more than all its other work.

use std::time::Duration;

use clickhouse::error::Error;
use tokio_util::sync::CancellationToken;

use super::Database;
use super::connection::TIMEOUT;

/// Shortest time between two refreshes.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// The views in dependency order: hours are sums of minutes, and days are sums of hours.
const VIEWS: [&str; 3] = [
    "prediction_minutes_view",
    "prediction_hours_view",
    "prediction_days_view",
];

/// Refreshes the rollups after every change, at most once per [`MIN_INTERVAL`], until shutdown.
pub(crate) async fn run(database: Database, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = database.changed() => {}
        }
        match tokio::time::timeout(TIMEOUT, refresh(&database)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "refreshing rollups failed; the schedule catches up"),
            Err(_) => tracing::debug!("refreshing rollups timed out; the schedule catches up"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MIN_INTERVAL) => {}
        }
    }
}

async fn refresh(database: &Database) -> Result<(), Error> {
    for view in VIEWS {
        for statement in ["SYSTEM REFRESH VIEW", "SYSTEM WAIT VIEW"] {
            let query = database.client.query_raw(&format!("{statement} {view}"));
            query.execute().await?;
        }
    }
    Ok(())
}
