//! The one way to publish a job to the queue, and to read its result: as a library (used by the API)
//! and as a command line.

pub mod cli;
mod publish;

pub use precis_runtime::results::{ResultError, Results, StoredResult};
pub use publish::{Accepted, Producer, PublishError, Submission};
