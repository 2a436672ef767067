//! Continuous batching: requests join the decoder between two steps and leave it as soon as they finish or are
//! cancelled.
//!
//! A request's path: `submit.rs` joins it to an equal request in flight or queues it (`queue/`). A compute thread with
//! room for it (`runner.rs`) runs the encoder, unless the text's states are cached (`texts.rs`), and decodes it
//! together with its other requests (`active/`). Each request has its own KV cache slots (`slots.rs`) and drafts
//! (`draft.rs`). Events go to the subscribers (`generation.rs`).

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
