//! ClickHouse: connection, errors, migrations and retention.

mod connection;
mod error;
mod migrate;
mod retention;

pub(crate) use connection::{Database, backoff};
pub(crate) use error::{explain, is_content_rejection, rejection};
pub(crate) use migrate::{MigrateError, migrate};
