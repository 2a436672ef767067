//! The worker: pulls jobs from the queue, runs the model on them, and publishes the results.
//!
//! [`pipeline`] takes jobs through the [`stages`], which are numbered in the order in which a job passes them. [`job`]
//! runs the stages that need no queue, so that [`local`] runs the same code on jobs from memory.

mod args;
pub mod cancel;
pub mod delivery;
pub mod drain;
pub mod hand_backs;
pub mod heartbeat;
pub mod identity;
pub mod job;
pub mod lease;
pub mod local;
pub mod metrics;
pub mod model;
pub mod pace;
pub mod pipeline;
pub mod progress;
mod run;
pub mod settlement;
pub mod stages;
pub mod summary;
pub mod tenant_slots;
pub mod trace;

pub use args::WorkerArgs;
pub use run::run;
