//! Watching jobs: requests that wait for a result, progress events, and the event stream of a job.

pub(crate) mod event_stream;
pub(crate) mod events;
pub(crate) mod progress;
pub(crate) mod signs;
pub(crate) mod wait;
