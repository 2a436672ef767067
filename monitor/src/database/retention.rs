//! Retention: sets the configured days in place of those of the migrations.

use clickhouse::error::Error;
use precis_runtime::config::ClickHouseConfig;

use super::connection::Database;

/// Columns that expire first.
const TEXTS: [&str; 5] = [
    "text",
    "summary",
    "reference",
    "text_embedding",
    "summary_embedding",
];
/// Days for which minute rollups outlive texts, because late references may still change the rollups.
const MINUTES_AFTER_TEXTS: u32 = 2;

/// The view with the hour before which minute rollups may have expired.
const HORIZON: &str = "rollup_horizon";

/// A clause, how often a table's definition must contain it, and the statement that sets it.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    table: &'static str,
    clause: String,
    count: usize,
    statement: String,
}

/// The rules for these days. `horizon` is the present [rollup horizon](HORIZON), in seconds since 1970.
fn rules(texts: u32, rows: u32, horizon: u32) -> Vec<Rule> {
    let expiry = |column: &str, days: u32| format!("{column} + toIntervalDay({days})");
    let columns: Vec<String> = TEXTS
        .iter()
        .map(|column| {
            format!(
                "MODIFY COLUMN `{column}` TTL {}",
                expiry("toDateTime(finished_at)", texts)
            )
        })
        .collect();
    let table = |table: &'static str, column: &str, days: u32| Rule {
        table,
        // The suffix distinguishes the table's TTL from a column's.
        clause: format!(" TTL {} SETTINGS", expiry(column, days)),
        count: 1,
        statement: format!("ALTER TABLE {table} MODIFY TTL {}", expiry(column, days)),
    };
    vec![
        Rule {
            table: "prediction_versions",
            clause: format!(" TTL {}, ", expiry("toDateTime(finished_at)", texts)),
            count: TEXTS.len(),
            statement: format!("ALTER TABLE prediction_versions {}", columns.join(", ")),
        },
        table("prediction_versions", "toDateTime(finished_at)", rows),
        table("prediction_minutes", "minute", texts + MINUTES_AFTER_TEXTS),
        // Ends two days before the oldest minute rollups, so that none it relies on has expired. It never moves back:
        // rollups that expired under a shorter retention don't come back under a longer one.
        Rule {
            table: HORIZON,
            clause: format!("toIntervalDay({texts})"),
            count: 1,
            statement: format!(
                "CREATE OR REPLACE VIEW {HORIZON} AS SELECT greatest(\
                 toStartOfHour(now('UTC') - toIntervalDay({texts})), toDateTime({horizon}, 'UTC')) AS since"
            ),
        },
        table("prediction_hours", "minute", rows),
        table("prediction_days", "minute", rows),
        table("drift_days", "day", rows),
    ]
}

/// Changes the retention that differs from `settings`. Returns the number of changes.
///
/// # Errors
/// When ClickHouse can't be reached, or rejects a statement.
pub(crate) async fn apply(database: &Database, settings: &ClickHouseConfig) -> Result<usize, Error> {
    let mut changes = 0;
    let horizon: u32 = database
        .client
        .query(&format!("SELECT toUnixTimestamp(since) FROM {HORIZON}"))
        .fetch_one()
        .await?;
    for rule in rules(settings.text_ttl_days, settings.row_ttl_days, horizon) {
        let definition: String = database
            .client
            .query("SELECT create_table_query FROM system.tables WHERE database = ? AND name = ?")
            .bind(&database.name)
            .bind(rule.table)
            .fetch_one()
            .await?;
        if definition.matches(&rule.clause).count() != rule.count {
            tracing::info!(rule.statement, "changing the retention in ClickHouse");
            database.client.query_raw(&rule.statement).execute().await?;
            changes += 1;
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_set_the_default_retention() {
        let settings = ClickHouseConfig::default();
        let schema: String = precis_schemas::migrations::ALL.iter().map(|m| m.sql).collect();
        for rule in rules(settings.text_ttl_days, settings.row_ttl_days, 0) {
            let days = rule.clause.split(['(', ')']).rev().nth(1).unwrap();
            assert!(schema.contains(&format!("INTERVAL {days} DAY")), "{rule:?}");
        }
    }
}
