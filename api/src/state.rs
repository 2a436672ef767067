//! What every handler can reach.

use std::sync::Arc;

use precis_runtime::config::{ApiConfig, BatchesConfig, HttpConfig, LimitsConfig};
use precis_runtime::liveness::Workers;
use precis_schemas::error_code::Refusal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Gate;
use crate::analytics::Analytics;
use crate::batches::progress::ProgressCache;
use crate::queue::QueueBackend;
use crate::queue::QueueDepth;
use crate::queue::depth_cache::DepthCache;
use crate::watch::progress::Running;
use crate::watch::wait::Waiters;
use crate::webhooks::Webhooks;

/// What the state is made of.
pub(crate) struct Parts {
    /// What a request may carry.
    pub(crate) limits: LimitsConfig,
    /// The gateway's own settings.
    pub(crate) api: ApiConfig,
    /// How HTTP is spoken.
    pub(crate) http: HttpConfig,
    /// What an upload may bring.
    pub(crate) batches: BatchesConfig,
    /// Whom and how to call back.
    pub(crate) webhooks: Webhooks,
    /// Who may call.
    pub(crate) gate: Arc<Gate>,
    /// How long results are kept.
    pub(crate) result_ttl_hours: u64,
    /// The queue.
    pub(crate) queue: Arc<dyn QueueBackend>,
    /// The analytics database.
    pub(crate) analytics: Analytics,
    /// Live workers.
    pub(crate) workers: Workers,
    /// Requests that wait for a result.
    pub(crate) waiters: Waiters,
    /// Jobs that a worker has begun with.
    pub(crate) running: Running,
    /// Cancelled when the process is to stop.
    pub(crate) stop: CancellationToken,
}

struct Inner {
    parts: Parts,
    depth: DepthCache,
    batch_progress: ProgressCache,
    started: Instant,
}

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Inner>);

impl AppState {
    /// A state of these parts.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            depth: DepthCache::default(),
            batch_progress: ProgressCache::default(),
            started: Instant::now(),
        }))
    }

    /// What a request may carry.
    pub(crate) fn limits(&self) -> &LimitsConfig {
        &self.0.parts.limits
    }

    /// The gateway's own settings.
    pub(crate) fn api(&self) -> &ApiConfig {
        &self.0.parts.api
    }

    /// How HTTP is spoken.
    pub(crate) fn http(&self) -> &HttpConfig {
        &self.0.parts.http
    }

    /// What an upload may bring.
    pub(crate) fn batches(&self) -> &BatchesConfig {
        &self.0.parts.batches
    }

    /// Whom and how to call back.
    pub(crate) fn webhooks(&self) -> &Webhooks {
        &self.0.parts.webhooks
    }

    /// The progress of recently requested batches.
    pub(crate) fn batch_progress(&self) -> &ProgressCache {
        &self.0.batch_progress
    }

    /// Who may call.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.0.parts.gate
    }

    /// How long results are kept.
    pub(crate) fn result_ttl_hours(&self) -> u64 {
        self.0.parts.result_ttl_hours
    }

    /// The queue.
    pub(crate) fn queue(&self) -> &dyn QueueBackend {
        &*self.0.parts.queue
    }

    /// The analytics database.
    pub(crate) fn analytics(&self) -> &Analytics {
        &self.0.parts.analytics
    }

    /// Live workers.
    pub(crate) fn workers(&self) -> &Workers {
        &self.0.parts.workers
    }

    /// Requests that wait for a result.
    pub(crate) fn waiters(&self) -> &Waiters {
        &self.0.parts.waiters
    }

    /// Jobs that a worker has begun with.
    pub(crate) fn running(&self) -> &Running {
        &self.0.parts.running
    }

    /// Cancelled when the process is to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.parts.stop
    }

    /// When this process began to listen to workers.
    pub(crate) fn started(&self) -> Instant {
        self.0.started
    }

    /// A look at the queue, at most a second old.
    pub(crate) async fn depth(&self) -> Result<QueueDepth, Refusal> {
        self.0.depth.get(self.queue()).await
    }
}
