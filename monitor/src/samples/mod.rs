//! Sample data: articles with references, and a history of predictions that shows every chart.
//!
//! | file | contents |
//! | --- | --- |
//! | `history.rs` | the predictions of the sample history |
//! | `removal.rs` | the statements that remove it |
//!
//! Every prediction of the history belongs to the tenant [`SampleHistory::TENANT`] and to models of its own, so it can be
//! told apart, and removed with its rollups.

mod history;
mod removal;

use std::sync::Arc;
use std::time::Duration;

use clickhouse::Row;
use clickhouse::error::Error;
use precis_runtime::Config;
use precis_runtime::clock;
use precis_runtime::config::{ClickHouseConfig, DriftConfig};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest_operations::SampleHistory;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::database::{Database, explain, migrate};
use crate::drift;
use crate::row::{PredictionRow, TABLE, TextFilter};

const ARTICLES: &str = include_str!("../../../samples/articles.jsonl");
/// Longest time for a step: an insert, or a removal from one table.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A sample article.
#[derive(Debug, Clone, Deserialize)]
struct Article {
    id: String,
    article: String,
    reference: String,
}

/// A row of the table `samples`.
#[derive(Debug, Row, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) sample_id: String,
    pub(crate) article: String,
    pub(crate) summ: String,
}

/// Count and times of the stored sample history, in milliseconds since 1970.
#[derive(Debug, Row, Deserialize)]
struct Stored {
    predictions: u64,
    from: i64,
    to: i64,
    pairs: u64,
}

/// Loads and removes sample data. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    database: Database,
    clickhouse: ClickHouseConfig,
    drift: DriftConfig,
    texts: TextFilter,
    /// Held while data is loaded or removed.
    turn: Arc<Mutex<()>>,
}

fn articles() -> Vec<Article> {
    // The file is compiled in; the test below finds unreadable lines.
    ARTICLES
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn unavailable(error: &dyn std::error::Error) -> Refusal {
    tracing::warn!(%error, "sample data not changed");
    Refusal::new(
        ErrorCode::AnalyticsUnavailable,
        "the analytics database is unavailable; try again later",
    )
}

async fn in_time<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Refusal> {
    let outcome = tokio::time::timeout(TIMEOUT, step).await;
    outcome.unwrap_or(Err(Error::TimedOut)).map_err(|error| {
        tracing::warn!(error = explain(&error), "a step with sample data failed");
        unavailable(&error)
    })
}

impl Samples {
    /// Creates the store of sample data.
    pub(crate) fn new(database: Database, config: &Config) -> Self {
        Self {
            database,
            clickhouse: config.clickhouse.clone(),
            drift: config.drift.clone(),
            texts: TextFilter::new(&config.monitor),
            turn: Arc::default(),
        }
    }

    /// Returns what is stored.
    ///
    /// # Errors
    /// When ClickHouse is unavailable.
    pub(crate) async fn history(&self) -> Result<SampleHistory, Refusal> {
        let query = self
            .database
            .client
            .query(
                "SELECT uniqExact(job_id) AS predictions,
                    toUnixTimestamp64Milli(min(finished_at)) AS from, toUnixTimestamp64Milli(max(finished_at)) AS to,
                    assumeNotNull((SELECT count() FROM samples FINAL WHERE sample_id IN ?)) AS pairs
                FROM prediction_versions WHERE tenant = ?",
            )
            .bind(articles().into_iter().map(|article| article.id).collect::<Vec<_>>())
            .bind(SampleHistory::TENANT);
        let stored: Stored = in_time(query.fetch_one()).await?;
        let time = |millis| {
            let time = jiff::Timestamp::from_millisecond(millis).ok();
            time.filter(|_| stored.predictions > 0)
        };
        Ok(SampleHistory {
            predictions: stored.predictions,
            pairs: stored.pairs,
            from: time(stored.from),
            to: time(stored.to),
        })
    }

    /// Sets up the schema, and loads the pairs and the history unless they are stored. Returns what is stored then.
    ///
    /// # Errors
    /// When ClickHouse is unavailable.
    pub(crate) async fn load(&self) -> Result<SampleHistory, Refusal> {
        let _turn = self.turn.lock().await;
        migrate(&self.database, &self.clickhouse)
            .await
            .map_err(|error| unavailable(&error))?;
        in_time(self.insert_pairs()).await?;
        if self.history().await?.predictions == 0 {
            let now = clock::now();
            let days = self.clickhouse.text_ttl_days.min(history::MAX_DAYS);
            let rows = history::rows(&articles(), now, days, self.texts);
            if let Err(refusal) = in_time(self.insert(&rows)).await {
                // The table may have changed: look up its columns again.
                self.database.client.clear_cached_metadata().await;
                return Err(refusal);
            }
            self.database.report_change();
            tracing::info!(predictions = rows.len(), days, "sample history loaded");
            if self.drift.every_minutes > 0 {
                let computed = drift::compute_now(&self.database, &self.drift);
                if let Err(error) = in_time(computed).await {
                    tracing::debug!(%error, "drift of the sample history is computed at the next interval");
                }
            }
        }
        self.history().await
    }

    async fn insert_pairs(&self) -> Result<(), Error> {
        let mut insert = self.database.client.insert::<Pair>("samples").await?;
        for article in articles() {
            let pair = Pair {
                sample_id: article.id,
                article: article.article,
                summ: article.reference,
            };
            insert.write(&pair).await?;
        }
        insert.end().await
    }

    async fn insert(&self, rows: &[PredictionRow]) -> Result<(), Error> {
        // A repeated load of the same day makes the same rows, also after a removal.
        let token = format!("sample-history-{}", clock::now().as_millisecond());
        let mut insert = self
            .database
            .client
            .insert::<PredictionRow>(TABLE)
            .await?
            .with_timeouts(Some(TIMEOUT), Some(TIMEOUT))
            .with_setting("insert_deduplication_token", token)
            .with_setting("async_insert", "0")
            .with_setting("max_partitions_per_insert_block", "0");
        for row in rows {
            insert.write(row).await?;
        }
        insert.end().await
    }

    /// Removes the history with its rollups, and the pairs. Returns what is left: nothing.
    ///
    /// # Errors
    /// When ClickHouse is unavailable. Removing again removes the rest.
    pub(crate) async fn remove(&self) -> Result<SampleHistory, Refusal> {
        let _turn = self.turn.lock().await;
        let pairs: Vec<String> = articles().into_iter().map(|article| article.id).collect();
        for step in removal::steps(&pairs) {
            let query = self.database.client.query_raw(&step.statement).execute();
            match in_time(query).await {
                // Reports the failure of the view's last refresh. It has ended, which is all that counts.
                Err(_) if step.may_fail => {}
                outcome => outcome?,
            }
        }
        tracing::info!("sample history removed");
        self.history().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_readable() {
        assert_eq!(articles().len(), ARTICLES.lines().count());
    }
}
