//! A worker: takes jobs from the queue in batches, runs T5 on them, publishes the results.
//!
//! The stages are the files of [`stages`], in the order in which a job passes them;
//! [`pipeline`] wires them.

mod args;
pub mod cancel;
pub mod heartbeat;
pub mod lease;
pub mod local;
pub mod metrics;
pub mod model;
pub mod pace;
pub mod pipeline;
pub mod serving;
pub mod stages;
pub mod trace;

pub use args::WorkerArgs;
pub use pipeline::run;
