//! Publishes jobs and reads their results: a library, which the gateway uses, and a command line.

mod batch;
pub mod cli;
mod files;
pub mod gateway;
mod polling;
mod publish;
pub mod rows;
mod scores;

pub use precis_runtime::results::{ResultError, Results, StoredResult};
pub use publish::{Accepted, Producer, PublishError, Submission};
