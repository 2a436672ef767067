//! Detects idle HTTP/2 connections. (hyper has a timeout for HTTP/1 only.)
//!
//! Only requests and response data count as activity. Pings, incomplete headers and window updates don't, so a client
//! can't hold a connection open with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until};
use tower::Service;

#[derive(Debug)]
struct Inner {
    /// Applies after the last response.
    idle_timeout: Duration,
    /// Applies while a response is sent, since the last data that the client accepted.
    write_timeout: Duration,
    opened_at: Instant,
    /// Time of the last activity, in milliseconds since `opened_at`.
    last_active: AtomicU64,
    /// Requests without a response.
    requests: AtomicUsize,
    /// Responses that are being sent.
    responses: AtomicUsize,
}

/// The idle timer of one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct IdleTimer(Arc<Inner>);

/// Increments a counter until it is dropped.
struct InFlight {
    timer: IdleTimer,
    counter: fn(&Inner) -> &AtomicUsize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.timer.touch();
        (self.counter)(&self.timer.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl IdleTimer {
    /// Starts the timer of a new connection.
    pub(crate) fn new(idle_timeout: Duration, write_timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            idle_timeout,
            write_timeout,
            opened_at: Instant::now(),
            last_active: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            responses: AtomicUsize::new(0),
        }))
    }

    fn touch(&self) {
        let ms = u64::try_from(self.0.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_active.store(ms, Ordering::Relaxed);
    }

    fn count(&self, counter: fn(&Inner) -> &AtomicUsize) -> InFlight {
        counter(&self.0).fetch_add(1, Ordering::Relaxed);
        InFlight {
            timer: self.clone(),
            counter,
        }
    }

    /// The time at which the connection expires without further activity. It never expires while a request is handled.
    fn expires_at(&self) -> Instant {
        let inner = &*self.0;
        if inner.requests.load(Ordering::Relaxed) > 0 {
            return Instant::now() + inner.idle_timeout;
        }
        let timeout = match inner.responses.load(Ordering::Relaxed) {
            0 => inner.idle_timeout,
            _ => inner.write_timeout,
        };
        inner.opened_at + Duration::from_millis(inner.last_active.load(Ordering::Relaxed)) + timeout
    }

    /// Waits until the connection has been idle for too long.
    pub(crate) async fn expired(&self) {
        loop {
            let expires_at = self.expires_at();
            if Instant::now() >= expires_at {
                return;
            }
            sleep_until(expires_at).await;
        }
    }

    /// Wraps `service`: its requests and responses restart the timer.
    pub(crate) fn layer<S>(&self, service: S) -> TrackActivity<S> {
        TrackActivity {
            timer: self.clone(),
            service,
        }
    }
}

/// A service whose requests and responses restart an [`IdleTimer`].
#[derive(Debug, Clone)]
pub(crate) struct TrackActivity<S> {
    timer: IdleTimer,
    service: S,
}

impl<S, B> Service<Request<B>> for TrackActivity<S>
where
    S: Service<Request<B>, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let timer = self.timer.clone();
        let handling = timer.count(|inner| &inner.requests);
        let response = self.service.call(request);
        async move {
            let (head, body) = response.await?.into_parts();
            let sending = timer.count(|inner| &inner.responses);
            drop(handling);
            let body = body.map_frame(move |frame| {
                sending.timer.touch();
                frame
            });
            Ok(Response::from_parts(head, Body::new(body)))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);
    const WRITE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_connection_expires_without_requests_or_response_data() {
        let opened = Instant::now();
        let timer = IdleTimer::new(IDLE, WRITE);
        timer.expired().await;
        assert_eq!(opened.elapsed(), IDLE);

        let timer = IdleTimer::new(IDLE, WRITE);
        let handling = timer.count(|inner| &inner.requests);
        let never = tokio::time::timeout(WRITE * 10, timer.expired()).await;
        assert!(never.is_err(), "a request is being handled");
        let sending = timer.count(|inner| &inner.responses);
        drop(handling);
        let responded = Instant::now();
        timer.expired().await;
        assert_eq!(responded.elapsed(), WRITE);
        drop(sending);
        let sent = Instant::now();
        timer.expired().await;
        assert_eq!(sent.elapsed(), IDLE);
    }
}
