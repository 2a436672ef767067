//! The `precis` command: the whole product on one machine.
//!
//! `precis up` finds or fetches the servers ([`install`]), starts every role as a supervised process
//! ([`up`]) and stops them in order. ClickHouse is the real engine behind its own HTTP interface
//! ([`clickhouse`]). `precis bench` measures the parts.

mod bench;
mod cli;
pub mod clickhouse;
mod client;
mod guard;
pub mod install;
mod key;
mod status;
mod summarize;
pub mod up;

pub use cli::main;
