//! How long ClickHouse keeps what is in it: the configuration's days instead of those of the migrations.

use clickhouse::error::Error;
use precis_runtime::config::ClickHouseConfig;

use super::connection::Database;

/// Columns that are forgotten first.
const TEXTS: [&str; 5] = [
    "text",
    "summary",
    "reference",
    "text_embedding",
    "summary_embedding",
];
/// Days that figures by minute are kept longer than texts: as long as a late reference may change them.
const MINUTES_AFTER_TEXTS: u32 = 2;

/// A part of a table's definition that must be there, how often, and the statement that makes it so.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    table: &'static str,
    part: String,
    times: usize,
    statement: String,
}

fn rules(texts: u32, rows: u32) -> Vec<Rule> {
    let end = |column: &str, days: u32| format!("{column} + toIntervalDay({days})");
    let columns: Vec<String> = TEXTS
        .iter()
        .map(|column| {
            format!(
                "MODIFY COLUMN `{column}` TTL {}",
                end("toDateTime(finished_at)", texts)
            )
        })
        .collect();
    let table = |table: &'static str, column: &str, days: u32| Rule {
        table,
        // What follows tells the table's own from a column's.
        part: format!(" TTL {} SETTINGS", end(column, days)),
        times: 1,
        statement: format!("ALTER TABLE {table} MODIFY TTL {}", end(column, days)),
    };
    vec![
        Rule {
            table: "prediction_versions",
            part: format!(" TTL {}, ", end("toDateTime(finished_at)", texts)),
            times: TEXTS.len(),
            statement: format!("ALTER TABLE prediction_versions {}", columns.join(", ")),
        },
        table("prediction_versions", "toDateTime(finished_at)", rows),
        table("prediction_minutes", "minute", texts + MINUTES_AFTER_TEXTS),
        table("prediction_hours", "minute", rows),
        table("prediction_days", "minute", rows),
        table("drift_days", "day", rows),
    ]
}

/// Changes what is not kept for as long as `settings` say; the number of changes.
///
/// # Errors
/// When ClickHouse can't be reached, or refuses.
pub(crate) async fn apply(database: &Database, settings: &ClickHouseConfig) -> Result<usize, Error> {
    let mut changes = 0;
    for rule in rules(settings.text_ttl_days, settings.row_ttl_days) {
        let definition: String = database
            .client
            .query("SELECT create_table_query FROM system.tables WHERE database = ? AND name = ?")
            .bind(&database.name)
            .bind(rule.table)
            .fetch_one()
            .await?;
        if definition.matches(&rule.part).count() != rule.times {
            tracing::info!(rule.statement, "changing how long ClickHouse keeps predictions");
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
    fn the_migrations_keep_things_for_as_long_as_the_defaults_say() {
        let settings = ClickHouseConfig::default();
        let schema: String = precis_schemas::migrations::ALL.iter().map(|m| m.sql).collect();
        for rule in rules(settings.text_ttl_days, settings.row_ttl_days) {
            let days = rule.part.split(['(', ')']).rev().nth(1).unwrap();
            assert!(schema.contains(&format!("INTERVAL {days} DAY")), "{rule:?}");
        }
    }
}
