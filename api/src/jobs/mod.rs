//! Jobs: submit, look up, watch, cancel and score them.
//!
//! | file | purpose |
//! | --- | --- |
//! | `endpoints.rs` | the routes with their documentation |
//! | `summaries.rs`, `scores.rs`, `routes.rs`, `events.rs` | the HTTP handlers |
//! | `submit.rs` | submits a job to the queue, and terminates one |
//! | `group.rs` | submits the jobs of one request, all or none, and waits for them |
//! | `idempotency.rs`, `idempotency_key.rs` | idempotent requests |
//! | `model.rs` | finds the model of a request |
//! | `lookup.rs`, `view.rs` | look up a job and show it |
//! | `queued.rs` | lists and cancels the jobs in the queue that match |

pub(crate) mod endpoints;
mod events;
pub(crate) mod group;
pub(crate) mod idempotency;
mod idempotency_key;
mod lookup;
pub(crate) mod model;
mod queued;
mod routes;
mod scores;
pub(crate) mod submit;
mod summaries;
pub(crate) mod view;
