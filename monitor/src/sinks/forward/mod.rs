//! Forwarding over HTTP, independent of the target.
//!
//! | module | contents |
//! | --- | --- |
//! | `forwarder` | from delivery to acknowledgement |
//! | `source`, `late` | the streams that are read: results, late references |
//! | `sampling` | which results are forwarded |
//! | `item` | a prediction or late scores |
//! | `payload` | items on their way: requests, rejections, retries |
//! | `target` | the interface of a target |
//! | `limits` | size limits of the targets |
//! | `http` | one request, and what its response means |
//! | `breaker` | the circuit breaker |

pub(crate) mod breaker;
mod forwarder;
pub(crate) mod http;
pub(crate) mod item;
pub(crate) mod late;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod payload;
pub(crate) mod sampling;
pub(crate) mod source;
pub(crate) mod target;

pub(crate) use forwarder::Forwarder;
