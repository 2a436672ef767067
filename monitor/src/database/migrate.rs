//! Brings the database to the schema that this program knows.
//!
//! The schema is in `precis_schemas::migrations`; the table `schema_migrations` remembers what has been
//! applied. Statements of a migration can be repeated (`IF NOT EXISTS`, `OR REPLACE`), so a process that was stopped in the
//! middle goes on where it was, and two processes that do this at once end with the same schema.

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

/// Why the schema is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    /// The server can't be reached, or refuses a statement.
    #[error("ClickHouse: {}", explain(.0))]
    Database(#[from] clickhouse::error::Error),
    /// The server did not answer in time.
    #[error("ClickHouse did not answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// An applied migration is not the one that this program has.
    #[error(
        "migration {version} ({name}) was applied to database {database} with another text than this \
         program has: a published migration is never edited. Run the version that applied it, or use \
         another clickhouse.database"
    )]
    Changed {
        /// Its number.
        version: u32,
        /// Its name in this program.
        name: &'static str,
        /// The database.
        database: String,
    },
    /// The database was made by a later version of the program.
    #[error(
        "database {database} has migration {applied}, and this program knows them up to {known}: the \
         database is newer than the program. Use a newer precis-monitor"
    )]
    Newer {
        /// The latest that was applied.
        applied: u32,
        /// The latest that this program has.
        known: u32,
        /// The database.
        database: String,
    },
}

impl MigrateError {
    /// Whether to try again makes no sense: somebody has to decide.
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

/// Creates the database if it is missing, applies what has not been applied, and sets how long things are kept; the
/// number of migrations applied now.
///
/// # Errors
/// When ClickHouse can't be reached, or the database is not one that this program may change.
pub(crate) async fn migrate(database: &Database, settings: &ClickHouseConfig) -> Result<usize, MigrateError> {
    let create = database
        .server
        .query("CREATE DATABASE IF NOT EXISTS ?")
        .bind(Identifier(&database.name));
    within(create.execute()).await?;
    within(database.client.query_raw(LEDGER).execute()).await?;
    let mut count = 0;
    // The ledger is read before each: another process may have been here meanwhile, and what one migration has changed
    // must not be changed by an earlier one afterwards.
    while let Some(migration) = missing(&ledger(database).await?, ALL, &database.name)?.first() {
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "changing the schema of ClickHouse"
        );
        for statement in migration.statements() {
            within_time(PATIENCE, database.client.query_raw(&statement).execute()).await?;
        }
        within(remember(database, migration)).await?;
        count += 1;
    }
    within_time(PATIENCE, retention::apply(database, settings)).await?;
    Ok(count)
}

async fn ledger(database: &Database) -> Result<Vec<Applied>, MigrateError> {
    let read = database
        .client
        .query("SELECT version, name, sha256 FROM ? FINAL ORDER BY version")
        .bind(Identifier(LEDGER_TABLE));
    within(read.fetch_all::<Applied>()).await
}

async fn remember(database: &Database, migration: &Migration) -> clickhouse::error::Result<()> {
    let mut insert = database.client.insert::<Applied>(LEDGER_TABLE).await?;
    insert.write(&Applied::from_migration(migration)).await?;
    insert.end().await
}

/// Longest that a statement of a migration may take: some copy whole tables.
const PATIENCE: Duration = Duration::from_secs(3_600);

async fn within<T>(step: impl Future<Output = clickhouse::error::Result<T>>) -> Result<T, MigrateError> {
    within_time(TIMEOUT, step).await
}

async fn within_time<T>(
    patience: Duration,
    step: impl Future<Output = clickhouse::error::Result<T>>,
) -> Result<T, MigrateError> {
    match timeout(patience, step).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(MigrateError::TimedOut(patience)),
    }
}

/// What of `known` is not among `applied`.
fn missing<'a>(
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
    let mut missing = Vec::new();
    for migration in known {
        match applied.iter().find(|entry| entry.version == migration.version) {
            None => missing.push(migration),
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
    Ok(missing)
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
        let missing = missing(applied, KNOWN, "precis").unwrap();
        missing.iter().map(|migration| migration.version).collect()
    }

    #[test]
    fn what_is_missing_is_applied_in_order_and_nothing_twice() {
        let one = Applied::from_migration(&KNOWN[0]);
        let two = Applied::from_migration(&KNOWN[1]);
        assert_eq!(versions(&[]), [1, 2]);
        assert_eq!(versions(std::slice::from_ref(&one)), [2]);
        assert_eq!(versions(&[one, two]), [0_u32; 0]);
    }

    #[test]
    fn an_edited_migration_is_refused() {
        let mut one = Applied::from_migration(&KNOWN[0]);
        one.sha256 = one.sha256.chars().rev().collect();
        let error = missing(&[one], KNOWN, "precis").unwrap_err();
        assert!(error.is_final());
        assert!(error.to_string().contains("migration 1 (one)"), "{error}");
    }

    #[test]
    fn a_database_from_the_future_is_refused() {
        let mut three = Applied::from_migration(&KNOWN[1]);
        three.version = 3;
        let error = missing(&[three], KNOWN, "precis").unwrap_err();
        assert!(error.is_final());
        assert!(error.to_string().contains("newer than the program"), "{error}");
    }

    #[test]
    fn an_applied_migration_is_known_by_its_sha256() {
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
