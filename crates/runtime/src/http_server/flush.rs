//! Tells a response when its connection has sent what was written to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// The flushes of one connection. Cheap to clone.
///
/// A body that fails closes its HTTP/1 connection, and what hyper still buffers is lost. A body that sends its last words
/// first waits for the next flush.
#[derive(Debug, Clone, Default)]
pub struct Flushes(Arc<Notify>);

impl Flushes {
    /// Waits until the kernel has all bytes of the response so far.
    pub async fn next(&self) {
        // hyper polls a body, then writes its buffer, then flushes the connection.
        self.0.notified().await;
    }

    /// Returns a stream whose flushes are reported here.
    pub(super) fn reported_by<S>(&self, stream: S) -> Flushing<S> {
        Flushing {
            stream,
            flushes: self.clone(),
        }
    }
}

/// A stream that reports its flushes.
#[derive(Debug)]
pub(super) struct Flushing<S> {
    stream: S,
    flushes: Flushes,
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(poll, Poll::Ready(Ok(()))) {
            self.flushes.0.notify_waiters();
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
