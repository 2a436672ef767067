//! Durable consumers: pulling deliveries, and settling them.

mod delivery;
pub(crate) mod lag;
mod pull;
mod time;

pub(crate) use delivery::{Delivered, Intake, acknowledge};
pub(crate) use pull::{Blocks, InHand, bury, intake_of};
pub(crate) use time::timestamp;
