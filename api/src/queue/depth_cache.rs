//! A cache of the queue depth, refreshed at most once a second.

use std::time::Duration;

use precis_schemas::error_code::Refusal;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::queue::{QueueBackend, QueueDepth};

/// How long a snapshot stays fresh.
const FRESH: Duration = Duration::from_secs(1);

/// The latest snapshot of the queue depth, shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct DepthCache {
    last: Mutex<Option<(Instant, Result<QueueDepth, Refusal>)>>,
}

impl DepthCache {
    /// Returns a snapshot that is at most a second old.
    ///
    /// Concurrent callers wait for one read and share its answer, including an error. A slow server thus gets one read
    /// at a time.
    pub(crate) async fn get(&self, queue: &dyn QueueBackend) -> Result<QueueDepth, Refusal> {
        let mut last = self.last.lock().await;
        if let Some((at, depth)) = &*last
            && at.elapsed() < FRESH
        {
            return depth.clone();
        }
        let depth = queue.depth().await;
        *last = Some((Instant::now(), depth.clone()));
        depth
    }
}
