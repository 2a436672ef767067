//! Migrations: update the database to the schema of this version.
//!
//! The schema is in `precis_schemas::migrations`; the table `schema_migrations` records what was applied. Statements
//! can be repeated (`IF NOT EXISTS`, `OR REPLACE`). An interrupted process resumes where it stopped, and two processes
//! that migrate at once end with the same schema.

use std::time::Duration;

use clickhouse::Row;
use clickhouse::sql::Identifier;
use precis_runtime::config::ClickHouseConfig;
use precis_schemas::migrations::{ALL, LEDGER, Migration};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::connection::{Database, TIMEOUT};
use super::error::explain;
use super::retention;

const LEDGER_TABLE: &str = "schema_migrations";

/// Why the schema can't be updated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    /// The server can't be reached, or rejects a statement.
    #[error("ClickHouse: {}", explain(.0))]
    Database(#[from] clickhouse::error::Error),
    /// The server did not answer in time.
    #[error("ClickHouse did not answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// An applied migration differs from the one in this version.
    #[error(
        "migration {version} ({name}) was applied to database {database} with different SQL: \
         published migrations are never edited. Run the version that applied it, or use another \
         clickhouse.database"
    )]
    Changed {
        version: u32,
        name: &'static str,
        database: String,
    },
    /// A later version of Precis changed the database.
    #[error(
        "database {database} has migration {applied}, but this version knows migrations up to {known}: the \
         database is newer than the program. Use a newer precis-monitor"
    )]
    Newer {
        applied: u32,
        known: u32,
        database: String,
    },
}

impl MigrateError {
    /// Whether retrying is pointless because an operator has to act.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Newer { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Row, Serialize, Deserialize)]
struct Applied {
    version: u32,
    name: String,
    sha256: String,
}

impl Applied {
    fn from_migration(migration: &Migration) -> Self {
        let digest = Sha256::digest(migration.sql.as_bytes());
        Self {
            version: migration.version,
            name: migration.name.to_owned(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// Creates the database if it is missing, applies pending migrations, and sets the retention. Returns how many
/// migrations were applied.
///
/// # Errors
/// When ClickHouse can't be reached, or the database must not be changed by this version.
pub(crate) async fn migrate(database: &Database, settings: &ClickHouseConfig) -> Result<usize, MigrateError> {
    let create = database
        .server
        .query("CREATE DATABASE IF NOT EXISTS ?")
        .bind(Identifier(&database.name));
    with_default_timeout(create.execute()).await?;
    with_default_timeout(database.client.query_raw(LEDGER).execute()).await?;
    let mut count = 0;
    // Read the ledger before each migration: another process may migrate at the same time, and an earlier migration
    // must not undo a later one.
    while let Some(migration) = pending(&ledger(database).await?, ALL, &database.name)?.first() {
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "applying a migration"
        );
        for statement in migration.statements() {
            with_timeout(MIGRATION_TIMEOUT, database.client.query_raw(&statement).execute()).await?;
        }
        with_default_timeout(record(database, migration)).await?;
        count += 1;
    }
    with_timeout(MIGRATION_TIMEOUT, retention::apply(database, settings)).await?;
    Ok(count)
}

async fn ledger(database: &Database) -> Result<Vec<Applied>, MigrateError> {
    let read = database
        .client
        .query("SELECT version, name, sha256 FROM ? FINAL ORDER BY version")
        .bind(Identifier(LEDGER_TABLE));
    with_default_timeout(read.fetch_all::<Applied>()).await
}

async fn record(database: &Database, migration: &Migration) -> clickhouse::error::Result<()> {
    let mut insert = database.client.insert::<Applied>(LEDGER_TABLE).await?;
    insert.write(&Applied::from_migration(migration)).await?;
    insert.end().await
}

/// Longest time for a statement of a migration. Some copy whole tables.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(3_600);

async fn with_default_timeout<T>(
    step: impl Future<Output = clickhouse::error::Result<T>>,
) -> Result<T, MigrateError> {
    with_timeout(TIMEOUT, step).await
}

async fn with_timeout<T>(
    limit: Duration,
    step: impl Future<Output = clickhouse::error::Result<T>>,
) -> Result<T, MigrateError> {
    match timeout(limit, step).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(MigrateError::TimedOut(limit)),
    }
}

/// Returns the migrations that are not applied yet.
fn pending<'a>(
    applied: &[Applied],
    known: &'a [Migration],
    database: &str,
) -> Result<Vec<&'a Migration>, MigrateError> {
    let latest_known = known.last().map_or(0, |migration| migration.version);
    let latest_applied = applied.iter().map(|entry| entry.version).max().unwrap_or(0);
    if latest_applied > latest_known {
        return Err(MigrateError::Newer {
            applied: latest_applied,
            known: latest_known,
            database: database.to_owned(),
        });
    }
    let mut pending = Vec::new();
    for migration in known {
        match applied.iter().find(|entry| entry.version == migration.version) {
            None => pending.push(migration),
            Some(entry) if entry.sha256 != Applied::from_migration(migration).sha256 => {
                return Err(MigrateError::Changed {
                    version: migration.version,
                    name: migration.name,
                    database: database.to_owned(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Migration] = &[
        Migration {
            version: 1,
            name: "one",
            sql: "SELECT 1;\n",
        },
        Migration {
            version: 2,
            name: "two",
            sql: "SELECT 2;\n",
        },
    ];

    fn versions(applied: &[Applied]) -> Vec<u32> {
        let pending = pending(applied, KNOWN, "precis").unwrap();
        pending.iter().map(|migration| migration.version).collect()
    }

    #[test]
    fn pending_migrations_are_applied_once_and_in_order() {
        let one = Applied::from_migration(&KNOWN[0]);
        let two = Applied::from_migration(&KNOWN[1]);
        assert_eq!(versions(&[]), [1, 2]);
        assert_eq!(versions(std::slice::from_ref(&one)), [2]);
        assert_eq!(versions(&[one, two]), [0_u32; 0]);
    }

    #[test]
    fn an_edited_migration_is_rejected() {
        let mut one = Applied::from_migration(&KNOWN[0]);
        one.sha256 = one.sha256.chars().rev().collect();
        let error = pending(&[one], KNOWN, "precis").unwrap_err();
        assert!(error.is_final());
        assert!(error.to_string().contains("migration 1 (one)"), "{error}");
    }

    #[test]
    fn a_newer_database_is_rejected() {
        let mut three = Applied::from_migration(&KNOWN[1]);
        three.version = 3;
        let error = pending(&[three], KNOWN, "precis").unwrap_err();
        assert!(error.is_final());
        assert!(error.to_string().contains("newer than the program"), "{error}");
    }

    #[test]
    fn migrations_are_identified_by_their_sha256() {
        let empty = Migration {
            version: 1,
            name: "empty",
            sql: "",
        };
        assert_eq!(
            Applied::from_migration(&empty).sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
