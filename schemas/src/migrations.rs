//! Migrations of the ClickHouse schema: SQL files in `schemas/clickhouse/`, applied in order, once each.

/// One migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Number at the start of the file name; they are applied in this order.
    pub version: u32,
    /// The rest of the file name.
    pub name: &'static str,
    /// The file: statements, each ended by a semicolon at the end of a line.
    pub sql: &'static str,
}

/// Every migration, in order. A published one is never edited; a change is a new file.
pub const ALL: &[Migration] = &[
    Migration {
        version: 1,
        name: "predictions",
        sql: include_str!("../clickhouse/0001_predictions.sql"),
    },
    Migration {
        version: 2,
        name: "versions",
        sql: include_str!("../clickhouse/0002_versions.sql"),
    },
    Migration {
        version: 3,
        name: "aggregates",
        sql: include_str!("../clickhouse/0003_aggregates.sql"),
    },
    Migration {
        version: 4,
        name: "samples",
        sql: include_str!("../clickhouse/0004_samples.sql"),
    },
    Migration {
        version: 5,
        name: "drift",
        sql: include_str!("../clickhouse/0005_drift.sql"),
    },
    Migration {
        version: 6,
        name: "batches",
        sql: include_str!("../clickhouse/0006_batches.sql"),
    },
    Migration {
        version: 7,
        name: "bounded_refresh",
        sql: include_str!("../clickhouse/0007_bounded_refresh.sql"),
    },
    Migration {
        version: 8,
        name: "figures",
        sql: include_str!("../clickhouse/0008_figures.sql"),
    },
    Migration {
        version: 9,
        name: "histograms",
        sql: include_str!("../clickhouse/0009_histograms.sql"),
    },
    Migration {
        version: 10,
        name: "days",
        sql: include_str!("../clickhouse/0010_days.sql"),
    },
    Migration {
        version: 11,
        name: "granules",
        sql: include_str!("../clickhouse/0011_granules.sql"),
    },
];

/// Table that remembers which migrations have been applied, and with what text.
pub const LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_migrations
(
    `version`    UInt32,
    `name`       String,
    `sha256`     String,
    `applied_at` DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version";

impl Migration {
    /// The statements of the file, without comments and without the closing semicolon.
    pub fn statements(&self) -> Vec<String> {
        let without_comments: String = self
            .sql
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .flat_map(|line| [line, "\n"])
            .collect();
        without_comments
            .split(";\n")
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_from_one_and_every_file_has_statements() {
        for (index, migration) in ALL.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            assert!(!migration.statements().is_empty(), "{}", migration.name);
        }
    }

    #[test]
    fn every_file_in_the_folder_is_applied() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/clickhouse")).unwrap();
        assert_eq!(
            files
                .filter(|file| file
                    .as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == "sql"))
                .count(),
            ALL.len()
        );
    }

    #[test]
    fn a_table_that_is_replaced_forgets_nothing_before_it_is_told_how_long_to_keep_it() {
        let replaced = |statement: &String| statement.starts_with("CREATE OR REPLACE TABLE");
        let statements: Vec<String> = ALL
            .iter()
            .flat_map(Migration::statements)
            .filter(replaced)
            .collect();
        assert_eq!(statements.len(), 3);
        for statement in statements {
            assert!(!statement.contains("TTL"), "{statement}");
        }
    }

    #[test]
    fn comments_and_closing_semicolons_are_not_sent() {
        let statements = ALL[0].statements();
        assert_eq!(statements.len(), 2);
        assert!(
            statements
                .iter()
                .all(|statement| !statement.contains("--") && !statement.ends_with(';'))
        );
    }
}
