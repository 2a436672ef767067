//! Jobs: submit, look up, cancel, score.

pub(crate) mod cancel;
pub(crate) mod endpoints;
pub(crate) mod eta;
pub(crate) mod group;
pub(crate) mod idempotency;
pub(crate) mod lookup;
pub(crate) mod model;
pub(crate) mod references;
pub(crate) mod report;
pub(crate) mod routes;
pub(crate) mod scores;
mod submission;
pub(crate) mod submit;
pub(crate) mod summaries;
pub(crate) mod termination;
pub(crate) mod view;
