//! The server: it accepts connections, bounds the time that a client may take, and ends in good order.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long the head of a request may take to arrive; also, how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a silent HTTP/2 client is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long open requests may go on when the process is to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `router` until `stop`, then lets open requests finish for a while.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = GracefulShutdown::new();
    loop {
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
        tokio::spawn(connection(
            stream,
            router.clone(),
            connections.watcher(),
            stop.clone(),
        ));
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
    watcher: hyper_util::server::graceful::Watcher,
    stop: CancellationToken,
) {
    // Answers are small and complete: waiting for more to send only delays them.
    let _best_effort = stream.set_nodelay(true);
    // The timeout of the head begins only with its first byte.
    let mut first = [0];
    let first_byte = tokio::time::timeout(HEADER_TIMEOUT, stream.peek(&mut first));
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
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_concurrent_streams(1_024);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = pin!(watcher.watch(serving)).await {
        tracing::debug!(%error, "a connection ended");
    }
}
