//! Sinks: each reads a stream with its own durable consumer, so one that falls behind delays no other.
//!
//! | module | contents |
//! | --- | --- |
//! | `clickhouse` | results and late references in ClickHouse |
//! | `targets` | a forwarder for each configured target |
//! | `forward` | forwarding over HTTP, independent of the target |
//! | `arize`, `phoenix` | the targets |
//! | `otlp` | OpenInference spans, which both targets read |
//! | `dead_letters` | deliveries that a sink can't store |
//! | `contract_tests` | requests compared with captured ones |

mod arize;
pub(crate) mod clickhouse;
#[cfg(test)]
mod contract_tests;
mod dead_letters;
pub(crate) mod forward;
mod otlp;
mod phoenix;
mod targets;

pub(crate) use targets::forward_all;
