//! ClickHouse: the connection, its errors, the schema and how long rows are kept.

mod connection;
mod error;
mod migrate;
mod retention;

pub(crate) use connection::Database;
pub(crate) use error::{explain, is_refusal_of_content, refusal};
pub(crate) use migrate::{MigrateError, migrate};
