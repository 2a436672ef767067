//! Bodies that their handler did not read to the end, usually because it refused the request.
//!
//! A client that is cut off while it still sends sees a broken connection instead of the response (RFC 9112, 9.6). The
//! server therefore goes on reading while it responds. Time and rate bound that, not size: a client may send a large
//! body before it looks at the response, and reading it costs little.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use http::header;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

/// How long a client may pause before its rate counts.
const GRACE: Duration = Duration::from_secs(5);
/// The average rate that a client must keep, in bytes per second.
const MIN_RATE: u32 = 64 << 10;

/// The part of a request's body that its handler does not read.
#[derive(Debug)]
pub(crate) struct UnreadBody(Option<Arc<Mutex<Option<Body>>>>);

impl UnreadBody {
    /// Finds out what the handler of `request` leaves unread.
    pub(crate) fn track(request: Request) -> (Request, Self) {
        if request.body().is_end_stream() {
            return (request, Self(None));
        }
        let rest = Arc::<Mutex<Option<Body>>>::default();
        let is_sent = !request.headers().contains_key(header::EXPECT);
        let request = request.map(|body| {
            Body::new(Tracked {
                body: Some(body),
                is_sent,
                rest: rest.clone(),
            })
        });
        (request, Self(Some(rest)))
    }

    /// Reads and discards the rest in the background, for at most `time_limit`. The response does not wait for it.
    pub(crate) fn discard(self, time_limit: Duration) {
        if let Some(body) = self.0.and_then(|rest| rest.lock().take()) {
            tokio::spawn(discard(body, time_limit));
        }
    }
}

/// A body that puts its unread rest into `rest` when it is dropped.
struct Tracked {
    /// `None` at the end of the body.
    body: Option<Body>,
    /// Whether the client sends the body unasked. With `Expect: 100-continue` it waits until someone reads.
    is_sent: bool,
    rest: Arc<Mutex<Option<Body>>>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_sent = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        if self.is_sent && unread.is_some() {
            *self.rest.lock() = unread;
        }
    }
}

/// Reads a body to its end, at most for `time_limit` and while the client keeps its rate.
async fn discard(mut body: Body, time_limit: Duration) {
    let began = Instant::now();
    let mut patience = GRACE;
    while let Ok(Some(Ok(frame))) = timeout_at(began + patience.min(time_limit), body.frame()).await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        patience += Duration::from_secs_f64(bytes as f64 / f64::from(MIN_RATE));
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use precis_runtime::Config;
    use precis_runtime::admin::Readiness;
    use precis_runtime::config::{AccessConfig, HttpConfig, KeyHash};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::gateway::router::router;
    use crate::testing::{FakeQueue, guarded_state_of};
    use precis_runtime::http_server::serve;

    /// Sends a request with a body of 20 MB, all of it before reading. Returns the response.
    async fn response_to(address: std::net::SocketAddr, head: &str, chunk_head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("{chunk_head}{}", " ".repeat(1_000_000));
        for _ in 0..20 {
            stream.write_all(chunk.as_bytes()).await.unwrap();
            if !chunk_head.is_empty() {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if !chunk_head.is_empty() {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let mut response = Vec::new();
        while !String::from_utf8_lossy(&response).contains("request_id") {
            let read = stream.read_buf(&mut response).await.unwrap();
            assert_ne!(read, 0, "the connection ended before the response");
        }
        String::from_utf8(response).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_sends_a_large_body_reads_why_it_was_refused() {
        let access = format!(
            "[[access.keys]]\nname = 'one'\nhash = '{}'\n[[access.keys]]\nname = 'slow'\nhash = '{}'\nrequests_per_minute = 1",
            KeyHash::of("precis_one"),
            KeyHash::of("precis_slow"),
        );
        let access: AccessConfig = Config::from_toml(&access).unwrap().access;
        let state = guarded_state_of(Arc::new(FakeQueue::default()), &access, HttpConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let routes = router(state, &Readiness::default(), None);
            serve(listener, routes, &HttpConfig::default(), CancellationToken::new()).await;
        });
        let length = "content-length: 20000000";
        let json = "content-type: application/json";
        let key = "x-api-key: precis_one";
        for (line, headers, status) in [
            ("POST /v1/summaries", vec![length, json], 401),
            (
                "POST /v1/summaries",
                vec![length, json, "x-api-key: precis_other"],
                401,
            ),
            ("POST /v1/summaries", vec![length, json, key], 413),
            (
                "POST /v1/summaries",
                vec!["transfer-encoding: chunked", json, key],
                413,
            ),
            (
                "POST /v1/summaries",
                vec![length, "content-type: text/plain", key],
                415,
            ),
            (
                "POST /v1/summaries",
                vec![length, json, key, "content-encoding: gzip"],
                415,
            ),
            (
                "POST /v1/batches?priority=urgent",
                vec![length, "content-type: text/csv", key],
                400,
            ),
            (
                "POST /v1/batches",
                vec![length, "content-type: image/png", key],
                415,
            ),
            (
                "POST /v1/batches",
                vec!["content-length: 999999999999", "content-type: text/csv", key],
                413,
            ),
            ("POST /v1/nothing", vec![length, json, key], 404),
            ("PUT /v1/summaries", vec![length, json, key], 405),
            (
                "POST /v1/summaries",
                vec![length, json, "x-api-key: precis_slow"],
                413,
            ),
            (
                "POST /v1/summaries",
                vec![length, json, "x-api-key: precis_slow"],
                429,
            ),
        ] {
            let headers = headers.join("\r\n");
            let head = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n\r\n");
            let chunk_head = if headers.contains("chunked") {
                "f4240\r\n"
            } else {
                ""
            };
            let response = response_to(address, &head, chunk_head).await;
            assert!(
                response.starts_with(&format!("HTTP/1.1 {status} ")),
                "{head}{response}"
            );
            assert!(response.contains("\"code\""), "{head}{response}");
        }
    }

    /// Returns how many chunks are read of a body that has one chunk of `bytes` every 100 ms, and in how many seconds.
    async fn read_of(bytes: usize, chunks: u64) -> (u64, u64) {
        let read = Arc::<Mutex<u64>>::default();
        let count = read.clone();
        let body = stream::unfold(0, move |sent| {
            let count = count.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                *count.lock() = sent;
                (sent < chunks).then(|| (Ok::<_, axum::Error>(vec![b' '; bytes]), sent + 1))
            }
        });
        let began = Instant::now();
        discard(Body::from_stream(body), Duration::from_secs(30)).await;
        let read = *read.lock();
        (read, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn reading_on_is_bounded_by_time_and_rate() {
        assert_eq!(
            read_of(1 << 20, 100).await,
            (100, 10),
            "a fast client is read to its end"
        );
        assert_eq!(read_of(10_000, 200).await, (200, 20), "a client may be slow");
        let (_, seconds) = read_of(1_000, u64::MAX).await;
        assert_eq!(seconds, 5, "a client that trickles is cut off");
        let (_, seconds) = read_of(1 << 20, u64::MAX).await;
        assert_eq!(seconds, 30, "an endless body is cut off");
    }
}
