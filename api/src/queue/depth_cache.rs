//! Caches of the queue depth, refreshed at most once a second.

use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt;
use precis_runtime::expiring_map::ExpiringMap;
use precis_schemas::JobSubject;
use precis_schemas::error_code::Refusal;
use precis_schemas::worker_consumers::TenantLane;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::queue::{QueueBackend, QueueDepth, TenantDepth};

/// How long a snapshot stays fresh.
const FRESH: Duration = Duration::from_secs(1);
/// How long an unused snapshot of a tenant is kept.
const KEPT: Duration = Duration::from_secs(10);
/// Most snapshots of tenants. The least recently requested one is dropped first.
const MAX_TENANTS: usize = 10_000;

/// The latest snapshot of something.
#[derive(Debug)]
struct Snapshot<T>(Mutex<Option<(Instant, Result<T, Refusal>)>>);

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Snapshot<T> {
    /// Returns a snapshot that is at most a second old.
    ///
    /// Concurrent callers wait for one read and share its answer, including an error. A slow server thus gets one read
    /// at a time.
    async fn get(&self, read: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let mut last = self.0.lock().await;
        if let Some((at, value)) = &*last
            && at.elapsed() < FRESH
        {
            return value.clone();
        }
        let value = read.await;
        *last = Some((Instant::now(), value.clone()));
        value
    }
}

/// The latest snapshots of the queue depth, shared by all requests.
#[derive(Debug)]
pub(crate) struct DepthCache {
    /// Shared, because it lists every tenant with jobs.
    all: Snapshot<Arc<QueueDepth>>,
    tenants: ExpiringMap<TenantLane, Arc<Snapshot<Option<TenantDepth>>>>,
}

impl Default for DepthCache {
    fn default() -> Self {
        Self {
            all: Snapshot::default(),
            tenants: ExpiringMap::new(KEPT, MAX_TENANTS),
        }
    }
}

impl DepthCache {
    /// Returns the depth of every lane, at most a second old.
    pub(crate) async fn get(&self, queue: &dyn QueueBackend) -> Result<Arc<QueueDepth>, Refusal> {
        self.all.get(queue.depth().map_ok(Arc::new)).await
    }

    /// Returns the depth of the subject's tenant in its lane, at most a second old.
    pub(crate) async fn of_tenant(
        &self,
        queue: &dyn QueueBackend,
        subject: &JobSubject,
    ) -> Result<Option<TenantDepth>, Refusal> {
        let key = TenantLane::from(subject);
        let snapshot = self.tenants.get_or_insert_with(key.clone(), Arc::default);
        snapshot.get(queue.tenant_depth(&key)).await
    }
}
