//! Publishes jobs and reads their results: a library, which the gateway uses, and a command line.

pub mod cli;
mod publish;

pub use precis_runtime::results::{ResultError, Results, StoredResult};
pub use publish::{Accepted, Producer, PublishError, Submission};
