//! Continuous batching: requests join the decoder between two steps, and leave it as soon as they are done or nobody
//! wants them any more.
//!
//! The way of a request: `submit.rs` joins it to an equal one in flight or queues it (`queue.rs`); a compute thread
//! with room for it (`runner.rs`) reads its text, or finds it read already (`texts.rs`), and decodes it together with
//! the others it has (`active.rs`), each with its own cached tokens (`slots.rs`) and its own drafts (`draft.rs`);
//! events go to whoever waits (`generation.rs`).

mod active;
mod draft;
mod generation;
mod queue;
mod runner;
mod slots;
mod submit;
#[cfg(test)]
mod tests;
mod texts;

pub use draft::Drafting;
pub(crate) use generation::Subscriber;
pub use generation::{Event, Generation};
pub use queue::Load;
pub(crate) use runner::Settings;
pub(crate) use submit::{Batcher, Threads};
