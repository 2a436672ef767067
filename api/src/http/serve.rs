//! The server: it accepts connections, bounds the time that a client may take, and ends in good order.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use precis_runtime::config::HttpConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::idle::Activity;
use crate::http::slow::Impatient;

/// Most header fields of an HTTP/1 request where hyper is told nothing.
const HYPERS_HEADERS: usize = 100;
/// How often a silent HTTP/2 client is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long an HTTP/2 client may take to leave when it is told to.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long open requests may go on when the process is to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `router` until `stop`, then lets open requests finish for a while.
pub(crate) async fn serve(listener: TcpListener, router: Router, http: &HttpConfig, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(http.max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        // Whoever comes when all places are taken waits in the system's queue.
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let serving = connection(stream, router.clone(), http.clone(), stop.clone());
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
    // New connections are refused from here on.
    drop(listener);
    connections.close();
    let open = connections.len();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        let seconds = DRAIN.as_secs();
        tracing::warn!(open, seconds, "requests that did not finish in time are cut off");
    }
}

/// What an HTTP/2 client begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Shortest and longest pause between two looks at a beginning that may be either version's.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Which version a client speaks, by what it sends first; none when it leaves before that can be told. Nothing is taken
/// from the stream, and whoever calls sets a time for it: hyper would wait for ever.
async fn version(stream: &TcpStream) -> Option<Version> {
    let mut begin = [0; PREFACE.len()];
    let mut pause = FIRST_LOOK;
    let mut seen = 0;
    loop {
        let count = stream.peek(&mut begin).await.ok()?;
        match begin.get(..count)? {
            [] => return None,
            all if all == PREFACE => return Some(Version::Http2),
            some if !PREFACE.starts_with(some) => return Some(Version::Http1),
            // What has been seen is seen again at once: only time tells whether more comes.
            _ => tokio::time::sleep(pause).await,
        }
        pause = if count > seen {
            FIRST_LOOK
        } else {
            (pause * 2).min(LAST_LOOK)
        };
        seen = count;
    }
}

async fn connection(stream: TcpStream, router: Router, http: HttpConfig, stop: CancellationToken) {
    // Answers are small and complete: waiting for more to send only delays them.
    let _best_effort = stream.set_nodelay(true);
    // The timeout of the head begins only with its first byte.
    let patience = http.header_timeout();
    let version = tokio::select! {
        () = stop.cancelled() => return,
        known = tokio::time::timeout(patience, version(&stream)) => match known {
            Ok(Some(version)) => version,
            Ok(None) | Err(_) => return,
        },
    };
    let stream = TokioIo::new(Impatient::new(stream, http.write_timeout()));
    let ended = match version {
        Version::Http1 => {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(patience)
                .max_header_size(http.max_header_bytes)
                .max_buf_size(http.max_header_bytes);
            // Without a number of its own hyper needs no memory for it.
            if http.max_headers != HYPERS_HEADERS {
                builder.max_headers(http.max_headers);
            }
            let serving = pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
            until(serving, stop.cancelled()).await.map_err(Into::into)
        }
        Version::Http2 => {
            let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            builder
                .http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_EVERY)
                .max_header_list_size(u32::try_from(http.max_header_bytes).unwrap_or(u32::MAX))
                .max_concurrent_streams(1_024);
            let activity = Activity::new();
            let serving =
                pin!(builder.serve_connection(stream, TowerToHyperService::new(activity.watch(router))));
            let over = async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = activity.over(patience, http.write_timeout()) => {}
                }
            };
            // A client that is told to leave and does not is cut off. When the process is to stop, its own time is longer.
            let goodbye = async {
                activity.over(patience, http.write_timeout()).await;
                tokio::time::sleep(GOODBYE).await;
                // Unless it has asked something at the last moment.
                activity.over(patience, http.write_timeout()).await;
            };
            tokio::select! {
                ended = until(serving, over) => ended,
                () = goodbye => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Serves a connection to its end, and asks it once to come there, `when` that is due.
async fn until<C: GracefulConnection>(mut serving: Pin<&mut C>, when: impl Future<Output = ()>) -> C::Output {
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = when => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}
