//! The HTTP server of every role: accepts connections, limits how long a client may take, and shuts down gracefully.

mod flush;
mod framing;
mod idle;
mod write_timeout;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer as _;

pub use self::flush::Flushes;
pub use self::framing::foreign_coding;
use self::idle::IdleTimer;
use self::write_timeout::WriteTimeout;
use crate::backoff::Backoff;
use crate::config::HttpConfig;

/// hyper's own limit on the header fields of an HTTP/1 request.
const DEFAULT_MAX_HEADERS: usize = 100;
/// Interval of pings to a silent HTTP/2 client.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Time that an HTTP/2 client has to close its connection after a GOAWAY frame.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that open requests have to finish after shutdown begins.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`. The usual cause is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Serves `router` until `stop` is cancelled, then gives open requests some time to finish.
///
/// Requests have their connection's [`Flushes`] as an extension. Those whose framing RFC 9112 forbids are refused.
pub async fn serve(listener: TcpListener, router: Router, http: &HttpConfig, stop: CancellationToken) {
    let router = router.layer(middleware::from_fn(framing::guard));
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(http.max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        // Without a permit, new connections wait in the kernel's backlog.
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = permits.clone().acquire_owned() => permit,
        };
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed; retrying");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                    continue;
                }
            },
        };
        let serving = serve_connection(stream, router.clone(), http.clone(), stop.clone());
        connections.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
    // Refuses new connections from here on.
    drop(listener);
    connections.close();
    let open = connections.len();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait())
        .await
        .is_err()
    {
        let seconds = DRAIN_TIMEOUT.as_secs();
        tracing::warn!(
            open,
            seconds,
            "requests did not finish in time; closing their connections"
        );
    }
}

/// The bytes with which an HTTP/2 client begins (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Shortest and longest delay between two peeks at an incomplete preface.
const MIN_PEEK_DELAY: Duration = Duration::from_millis(5);
const MAX_PEEK_DELAY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Detects the HTTP version from the first bytes without consuming them. Returns `None` if the client leaves first.
///
/// The caller must set a timeout: a client may send nothing at all.
async fn detect_version(stream: &TcpStream) -> Option<Version> {
    let mut begin = [0; PREFACE.len()];
    let (mut seen, mut attempt) = (0, 1);
    loop {
        let count = stream.peek(&mut begin).await.ok()?;
        match begin.get(..count)? {
            [] => return None,
            all if all == PREFACE => return Some(Version::Http2),
            some if !PREFACE.starts_with(some) => return Some(Version::Http1),
            // `peek` returns the same bytes again at once, so only a delay reveals whether more arrive.
            _ => tokio::time::sleep(Backoff::nth(MIN_PEEK_DELAY, MAX_PEEK_DELAY, attempt)).await,
        }
        attempt = if count > seen { 1 } else { attempt + 1 };
        seen = count;
    }
}

async fn serve_connection(stream: TcpStream, router: Router, http: HttpConfig, stop: CancellationToken) {
    // Responses are small and complete: waiting for more data only delays them.
    let _best_effort = stream.set_nodelay(true);
    // hyper's header timeout starts with the first byte of a header; this one starts with the connection.
    let header_timeout = http.header_timeout();
    let version = tokio::select! {
        () = stop.cancelled() => return,
        detected = tokio::time::timeout(header_timeout, detect_version(&stream)) => match detected {
            Ok(Some(version)) => version,
            Ok(None) | Err(_) => return,
        },
    };
    let flushes = Flushes::default();
    let stream = WriteTimeout::new(stream, http.write_timeout());
    let stream = TokioIo::new(flushes.reported_by(stream));
    let router = Extension(flushes).layer(router);
    let ended = match version {
        Version::Http1 => {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(header_timeout)
                .max_header_size(http.max_header_bytes)
                .max_buf_size(http.max_header_bytes);
            // A custom limit makes hyper allocate for each request.
            if http.max_headers != DEFAULT_MAX_HEADERS {
                builder.max_headers(http.max_headers);
            }
            let serving = pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
            serve_until(serving, stop.cancelled()).await.map_err(Into::into)
        }
        Version::Http2 => {
            let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            builder
                .http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .max_header_list_size(u32::try_from(http.max_header_bytes).unwrap_or(u32::MAX))
                .max_concurrent_streams(1_024);
            let idle = IdleTimer::new(header_timeout, http.write_timeout());
            let serving =
                pin!(builder.serve_connection(stream, TowerToHyperService::new(idle.layer(router))));
            let stop_or_idle = async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = idle.expired() => {}
                }
            };
            // Closes a connection whose client ignores GOAWAY. During shutdown `DRAIN_TIMEOUT` applies instead.
            let closed = async {
                idle.expired().await;
                tokio::time::sleep(GOAWAY_TIMEOUT).await;
                // A request that crossed the GOAWAY frame has restarted the timer.
                idle.expired().await;
            };
            tokio::select! {
                ended = serve_until(serving, stop_or_idle) => ended,
                () = closed => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

/// Serves a connection until its client closes it. Starts a graceful shutdown when `shutdown` completes.
async fn serve_until<C: GracefulConnection>(
    mut serving: Pin<&mut C>,
    shutdown: impl Future<Output = ()>,
) -> C::Output {
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = shutdown => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}
