//! The monitor: every result becomes a row in ClickHouse, and no job is left without an answer.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`migrate`] | brings the database to the schema that this program knows |
//! | [`row`] | one result, one row |
//! | `sinks::clickhouse` | results in blocks into ClickHouse, acknowledged after the insert |
//! | `sinks::references` | late references: predictions scored anew |
//! | `rest` | predictions of others, samples, history: the monitoring service over HTTP |
//! | `drift` | how far each model is from what it was |
//! | `retention` | how long ClickHouse keeps what |
//! | `reaper::dead_letters` | a job that was delivered as often as allowed goes to `DEAD` and is answered |
//! | `reaper::unserved` | a job that no worker will ever take is answered |
//!
//! A sink reads with a durable consumer of its own: while ClickHouse is away it falls behind, catches up
//! later, and hurts nobody else.

mod consumer;
mod database;
mod dead_letter;
mod drift;
mod metrics;
mod reaper;
mod rest;
pub mod row;
mod sinks;
mod wiring;

pub use consumer::StreamPosition;
pub use row::{Scorer, TextFilter};
pub use wiring::{describe_metrics, run};
