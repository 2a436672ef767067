//! ClickHouse: connection, errors, migrations, retention and rollups.

mod connection;
mod error;
mod migrate;
mod retention;
pub(crate) mod rollups;

pub(crate) use connection::{Database, backoff};
pub(crate) use error::{explain, is_content_rejection, rejection};
pub(crate) use migrate::{MigrateError, migrate};
