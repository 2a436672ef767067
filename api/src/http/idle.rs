//! An HTTP/2 connection on which nothing happens is given up: HTTP/1 has a timeout of its own for that.
//!
//! What a client sends besides requests doesn't count: pings, the first half of a head, more room for nothing.

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
    began: Instant,
    /// When something last happened, in milliseconds after the begin.
    last: AtomicU64,
    /// Requests that have no answer yet.
    requests: AtomicUsize,
    /// Answers that are not sent yet.
    answers: AtomicUsize,
}

/// What happens on one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Inner>);

/// Counts one more while it lives.
struct Counted {
    activity: Activity,
    count: fn(&Inner) -> &AtomicUsize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.activity.touch();
        (self.count)(&self.activity.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Of a connection that begins now.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            last: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
        }))
    }

    fn touch(&self) {
        let ms = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(ms, Ordering::Relaxed);
    }

    fn counted(&self, count: fn(&Inner) -> &AtomicUsize) -> Counted {
        count(&self.0).fetch_add(1, Ordering::Relaxed);
        Counted {
            activity: self.clone(),
            count,
        }
    }

    /// When it is to be given up if nothing happens until then: `unused` after the last answer, `unread` after the last
    /// piece of one that the client does not take. Never while a request is worked on.
    fn end(&self, unused: Duration, unread: Duration) -> Instant {
        let inner = &*self.0;
        if inner.requests.load(Ordering::Relaxed) > 0 {
            return Instant::now() + unused;
        }
        let patience = match inner.answers.load(Ordering::Relaxed) {
            0 => unused,
            _ => unread,
        };
        inner.began + Duration::from_millis(inner.last.load(Ordering::Relaxed)) + patience
    }

    /// Waits until the connection is to be given up, see [`Activity::end`].
    pub(crate) async fn over(&self, unused: Duration, unread: Duration) {
        loop {
            let end = self.end(unused, unread);
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// `service`, whose requests and answers count.
    pub(crate) fn watch<S>(&self, service: S) -> Watched<S> {
        Watched {
            activity: self.clone(),
            service,
        }
    }
}

/// A service whose requests and answers count.
#[derive(Debug, Clone)]
pub(crate) struct Watched<S> {
    activity: Activity,
    service: S,
}

impl<S, B> Service<Request<B>> for Watched<S>
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
        let activity = self.activity.clone();
        let asked = activity.counted(|inner| &inner.requests);
        let answer = self.service.call(request);
        async move {
            let (head, body) = answer.await?.into_parts();
            let sent = activity.counted(|inner| &inner.answers);
            drop(asked);
            let body = body.map_frame(move |frame| {
                sent.activity.touch();
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

    const UNUSED: Duration = Duration::from_secs(30);
    const UNREAD: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_when_nothing_was_asked_or_taken_for_long() {
        let began = Instant::now();
        let activity = Activity::new();
        activity.over(UNUSED, UNREAD).await;
        assert_eq!(began.elapsed(), UNUSED);

        let activity = Activity::new();
        let asked = activity.counted(|inner| &inner.requests);
        let never = tokio::time::timeout(UNREAD * 10, activity.over(UNUSED, UNREAD)).await;
        assert!(never.is_err(), "a request is worked on");
        let sent = activity.counted(|inner| &inner.answers);
        drop(asked);
        let answered = Instant::now();
        activity.over(UNUSED, UNREAD).await;
        assert_eq!(answered.elapsed(), UNREAD);
        drop(sent);
        let taken = Instant::now();
        activity.over(UNUSED, UNREAD).await;
        assert_eq!(taken.elapsed(), UNUSED);
    }
}
