//! Where results go. Each sink reads its stream with a durable consumer of its own.
//!
//! | file | what |
//! | --- | --- |
//! | `intake.rs`, `in_hand.rs` | messages out of a stream, in blocks; acknowledgements; dead letters |
//! | `clickhouse.rs`, `references.rs` | results, and references that came late, into ClickHouse |
//! | `block.rs`, `store.rs` | a block on its way into the table, however often it takes, and what of it is refused |
//! | `receivers.rs`, `forward/` | results forwarded to others |
//! | `arize/`, `phoenix.rs` | the forms in which they take them |
//! | `watch.rs` | how far behind each reader is, and what it has missed |
//! | `figures.rs` | whether figures can still be computed anew |
//! | `trace.rs` | spans of a block |
//! | `fault.rs` | what tests do to a block |

mod arize;
mod block;
#[cfg(test)]
mod captured;
pub(crate) mod clickhouse;
mod fault;
mod figures;
pub(crate) mod forward;
mod in_hand;
mod intake;
mod limits;
mod openinference;
mod otlp;
mod phoenix;
mod receivers;
pub(crate) mod references;
pub(crate) mod store;
mod trace;
pub(crate) mod watch;

pub(crate) use receivers::forward_all;
