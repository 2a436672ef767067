//! The reaper: ends jobs that no worker will finish.

pub(crate) mod max_deliveries;
pub(crate) mod stranded;
mod termination;
pub(crate) mod unserved;
mod waiting;

pub(crate) use termination::Reaper;
