//! The one way to publish a job to the queue, and to read its result: as a library (used by the API)
//! and as a command line.

pub mod cli;
mod publish;
mod results;

pub use publish::{Accepted, Producer, PublishError, Submission};
pub use results::{ResultError, Results, StoredResult};
