//! Where results go. Each sink reads `RESULTS` with a durable consumer of its own.

mod block;
pub(crate) mod clickhouse;
