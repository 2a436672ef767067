//! Forwarding to other products: results, and references that come later, over HTTP.
//!
//! | file | what |
//! | --- | --- |
//! | `http.rs` | one request, and what its answer means |
//! | `breaker.rs` | how long a receiver in trouble is left alone |
//! | `payload.rs` | items in requests, the ones that are refused, the ones that are tried again |
//! | `item.rs` | what is forwarded |
//! | `source.rs`, `late.rs` | what the messages of a stream are to a receiver: results, late references |
//! | `sampling.rs` | which results are |
//! | `forwarder.rs` | the way of a message from its stream to its acknowledgement |

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

pub(crate) use forwarder::Forwarder;
