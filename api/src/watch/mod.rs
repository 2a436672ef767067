//! Watching jobs: requests that wait for results, and progress events of running jobs.
//!
//! Each has one NATS subscription per process and passes messages on to the watchers of each job.

pub(crate) mod job_events;
pub(crate) mod progress;
pub(crate) mod wait;
mod watchers;
