//! Durable consumers: pulls deliveries from a stream, keeps them alive while in flight, and settles them.
//!
//! | module | contents |
//! | --- | --- |
//! | `pull` | the pull loop, with backoff and shutdown |
//! | `delivery` | one delivery, and how to settle it |
//! | `in_flight` | deliveries whose ack wait is extended until they are settled |
//! | `lag` | metrics of how far a sink is behind its stream |
//! | `position` | sequence and time of a message in its stream |

mod delivery;
mod in_flight;
pub(crate) mod lag;
mod position;
mod pull;

pub(crate) use delivery::{Delivery, acknowledge};
pub(crate) use in_flight::InFlight;
pub use position::StreamPosition;
pub(crate) use position::timestamp;
pub(crate) use pull::PullLoop;
