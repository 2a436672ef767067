//! Jobs that no worker will finish are answered, copied to `DEAD` and taken off the queue.

pub(crate) mod dead_letters;
mod termination;
pub(crate) mod unserved;

pub(crate) use termination::Reaper;
