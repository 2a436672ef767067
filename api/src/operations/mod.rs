//! What an operator looks at: the queue, the workers, the dead letters.

mod dead_letters;
pub(crate) mod endpoints;
mod queue;
mod replay;
