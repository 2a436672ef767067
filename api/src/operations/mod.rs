//! What an operator looks at: the queue, the workers, the dead letters, the parts of the deployment, sample data.

mod dead_letters;
pub(crate) mod endpoints;
mod monitor;
mod queue;
mod replay;
mod sample_history;
mod status;
