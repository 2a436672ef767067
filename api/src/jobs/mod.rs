//! Jobs: submit, look up, watch, cancel and score them.

pub(crate) mod endpoints;
mod events;
pub(crate) mod group;
pub(crate) mod idempotency;
mod idempotency_key;
mod lookup;
pub(crate) mod model;
mod routes;
mod scores;
pub(crate) mod submit;
mod summaries;
pub(crate) mod view;
