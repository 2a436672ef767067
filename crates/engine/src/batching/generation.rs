//! A caller's view of a request: a stream of events.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt};

use crate::error::RowError;
use crate::generate::Generated;

/// An event of a request, in order: `Started`, any number of `Tokens`, then `Finished` or `Failed`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A compute thread took the request.
    Started,
    /// New tokens of the best sequence so far. With beams, a later event may belong to a different sequence.
    Tokens(Arc<[u32]>),
    /// The request succeeded.
    Finished(Box<Generated>),
    /// The request failed.
    Failed(RowError),
}

impl Event {
    /// Returns whether this is the last event.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Failed(_))
    }
}

/// A running request: a [`Stream`] of its [`Event`]s. Dropping it early cancels the request, which leaves its batch
/// before the next step.
#[derive(Debug)]
pub struct Generation {
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) dropped: Arc<AtomicBool>,
}

impl Generation {
    /// Blocks until the request ends.
    ///
    /// # Errors
    /// The reason of a failure.
    pub fn wait(self) -> Result<Generated, RowError> {
        futures::executor::block_on(self.result())
    }

    /// Waits until the request ends.
    ///
    /// # Errors
    /// The reason of a failure.
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

/// Receives the events of a request.
pub(crate) type Sink = Box<dyn Fn(Event) + Send>;

/// A receiver of a request's events.
pub(crate) struct Subscriber {
    sink: Sink,
    /// Set when the receiver is dropped.
    gone: Arc<AtomicBool>,
    /// When its request was submitted.
    pub(crate) submitted: Instant,
}

impl Subscriber {
    pub(crate) fn new(sink: Sink, gone: Arc<AtomicBool>) -> Self {
        Self {
            sink,
            gone,
            submitted: crate::clock::now(),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn send(&self, event: Event) {
        (self.sink)(event);
    }
}
