//! Readiness: whether NATS and the streams are available.

use std::time::Duration;

use precis_runtime::admin::Readiness;
use tokio_util::sync::CancellationToken;

use super::{NatsQueue, REQUEST_TIMEOUT};

/// How often the connection is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The streams are checked on every tenth check of the connection.
const CHECKS_PER_STREAM_CHECK: u32 = 10;

/// Keeps `readiness` current until `stop`: ready while NATS is connected and the streams answer.
pub(crate) async fn watch_readiness(queue: NatsQueue, readiness: Readiness, stop: CancellationToken) {
    let mut streams_available = false;
    let mut checks = 0;
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        if !queue.connectivity.is_up() {
            streams_available = false;
        } else if checks == 0 || !streams_available {
            let infos = futures::future::join(queue.jobs_stream.get_info(), queue.results_stream.get_info());
            let found = tokio::time::timeout(REQUEST_TIMEOUT, infos).await;
            streams_available = matches!(found, Ok((Ok(_), Ok(_))));
        }
        checks = (checks + 1) % CHECKS_PER_STREAM_CHECK;
        readiness.set(streams_available);
    }
    readiness.set(false);
}
