//! Where results go. Each sink reads its stream with a durable consumer of its own.
//!
//! | module | contents |
//! | --- | --- |
//! | `clickhouse` | results and late references in ClickHouse |
//! | `targets` | one forwarder for each configured target |
//! | `forward` | forwarding over HTTP, whatever the target |
//! | `arize`, `phoenix` | the targets |
//! | `otlp` | OpenInference spans, which both targets read |

mod arize;
pub(crate) mod clickhouse;
#[cfg(test)]
mod contract_tests;
pub(crate) mod forward;
mod otlp;
mod phoenix;
mod targets;

pub(crate) use targets::forward_all;
