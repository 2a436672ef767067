//! What a caller holds of a request: a stream of events.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt};

use crate::error::RowError;
use crate::generate::Generated;

/// What happens to a request, in order: it starts, tokens come, and it ends in one of two ways.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A compute thread has taken it up.
    Started,
    /// The new tokens of the sequence that is best so far. With beams a later one may be another altogether.
    Tokens(Arc<[u32]>),
    /// It is done.
    Finished(Box<Generated>),
    /// It has no result.
    Failed(RowError),
}

impl Event {
    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Failed(_))
    }
}

/// A request in the engine: a [`Stream`] of its [`Event`]s. Dropping it before the last one cancels the request, which
/// then leaves its batch before the next step.
#[derive(Debug)]
pub struct Generation {
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) dropped: Arc<AtomicBool>,
}

impl Generation {
    /// Blocks until the end.
    ///
    /// # Errors
    /// Why there is no result.
    pub fn wait(self) -> Result<Generated, RowError> {
        futures::executor::block_on(self.result())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn result(mut self) -> Result<Generated, RowError> {
        while let Some(event) = self.next().await {
            match event {
                Event::Finished(generated) => return Ok(*generated),
                Event::Failed(error) => return Err(error),
                Event::Started | Event::Tokens(_) => {}
            }
        }
        Err(RowError::Compute("the engine has stopped".to_owned()))
    }
}

impl Stream for Generation {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next_unpin(context)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

/// Takes the events of a request.
pub(crate) type Sink = Box<dyn Fn(Event) + Send>;

/// Somebody who waits for a request.
pub(crate) struct Subscriber {
    sink: Sink,
    /// Set when nobody listens any more.
    gone: Arc<AtomicBool>,
}

impl Subscriber {
    pub(crate) fn new(sink: Sink, gone: Arc<AtomicBool>) -> Self {
        Self { sink, gone }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn send(&self, event: Event) {
        (self.sink)(event);
    }
}
