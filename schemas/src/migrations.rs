//! Migrations of the ClickHouse schema: the SQL files in `schemas/clickhouse/`. Each is applied once, in order.

/// One migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Number at the start of the file name.
    pub version: u32,
    /// The rest of the file name.
    pub name: &'static str,
    /// Content of the file: statements that end with a semicolon at the end of a line.
    pub sql: &'static str,
}

/// Every migration, in order. Published ones are never edited; a change is a new file.
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
    Migration {
        version: 12,
        name: "refresh_on_change",
        sql: include_str!("../clickhouse/0012_refresh_on_change.sql"),
    },
    Migration {
        version: 13,
        name: "exact_windows",
        sql: include_str!("../clickhouse/0013_exact_windows.sql"),
    },
    Migration {
        version: 14,
        name: "trace_id",
        sql: include_str!("../clickhouse/0014_trace_id.sql"),
    },
];

/// Creates the table of applied migrations and their checksums.
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
    /// Returns the statements of the file without comments and closing semicolons.
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
    fn versions_are_consecutive_and_every_file_has_statements() {
        for (index, migration) in ALL.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            assert!(!migration.statements().is_empty(), "{}", migration.name);
        }
    }

    #[test]
    fn every_migration_file_is_listed() {
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
    fn replaced_tables_start_without_a_ttl() {
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
    fn statements_have_no_comments_or_closing_semicolons() {
        let statements = ALL[0].statements();
        assert_eq!(statements.len(), 2);
        assert!(
            statements
                .iter()
                .all(|statement| !statement.contains("--") && !statement.ends_with(';'))
        );
    }
}
