//! The server: it accepts connections, bounds the time that a client may take, and ends in good order.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use precis_runtime::config::Http;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::slow::Impatient;

/// How often a silent HTTP/2 client is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long open requests may go on when the process is to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `router` until `stop`, then lets open requests finish for a while.
pub(crate) async fn serve(listener: TcpListener, router: Router, http: &Http, stop: CancellationToken) {
    let connections = GracefulShutdown::new();
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
        let serving = connection(
            stream,
            router.clone(),
            http.clone(),
            connections.watcher(),
            stop.clone(),
        );
        tokio::spawn(async move {
            serving.await;
            drop(place);
        });
    }
    // New connections are refused from here on.
    drop(listener);
    let open = connections.count();
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        let seconds = DRAIN.as_secs();
        tracing::warn!(open, seconds, "requests that did not finish in time are cut off");
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    http: Http,
    watcher: hyper_util::server::graceful::Watcher,
    stop: CancellationToken,
) {
    // Answers are small and complete: waiting for more to send only delays them.
    let _best_effort = stream.set_nodelay(true);
    // The timeout of the head begins only with its first byte.
    let mut first = [0];
    let patience = http.header_timeout();
    let first_byte = tokio::time::timeout(patience, stream.peek(&mut first));
    tokio::select! {
        () = stop.cancelled() => return,
        peeked = first_byte => if !matches!(peeked, Ok(Ok(1))) {
            return;
        },
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(http.max_header_bytes)
        .max_headers(http.max_headers);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_header_list_size(u32::try_from(http.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(1_024);
    let stream = Impatient::new(stream, http.write_timeout());
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = pin!(watcher.watch(serving)).await {
        tracing::debug!(%error, "a connection ended");
    }
}
