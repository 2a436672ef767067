//! Where results go. Each sink reads `RESULTS` with a durable consumer of its own.

mod arize;
mod block;
#[cfg(test)]
mod captured;
pub(crate) mod clickhouse;
pub(crate) mod forward;
mod intake;
mod limits;
mod openinference;
mod otlp;
mod phoenix;
mod receivers;
mod trace;

pub(crate) use receivers::forward_all;
