//! State that every handler shares.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use precis_runtime::Config;
use precis_runtime::browser_guard::BrowserGuard;
use precis_runtime::config::{ApiConfig, BatchesConfig, HttpConfig, LimitsConfig};
use precis_runtime::liveness::LiveWorkers;
use precis_schemas::JobSubject;
use precis_schemas::error_code::Refusal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Gate;
use crate::analytics::Analytics;
use crate::batches::progress::ProgressCache;
use crate::http::extract::BodyLimits;
use crate::queue::depth_cache::DepthCache;
use crate::queue::gauge::QueueGauge;
use crate::queue::lane_shares::LaneShares;
use crate::queue::retention::Retention;
use crate::queue::{QueueBackend, QueueDepth, TenantDepth};
use crate::watch::job_events::JobEvents;
use crate::watch::progress::Running;
use crate::watch::wait::Waiters;
use crate::webhooks::Webhooks;

/// Dependencies of a [`Gateway`](crate::Gateway).
pub struct Dependencies {
    /// The configuration.
    pub config: Config,
    /// The queue.
    pub queue: Arc<dyn QueueBackend>,
    /// How long the queue keeps results.
    pub result_retention: Duration,
    /// Where the queue reports progress and results of jobs.
    pub events: JobEvents,
    /// The live workers.
    pub workers: LiveWorkers,
    /// Cancelled to end requests that wait for a result.
    pub stop: CancellationToken,
}

struct Inner {
    config: Config,
    gate: Arc<Gate>,
    webhooks: Arc<Webhooks>,
    queue: Arc<dyn QueueBackend>,
    result_retention: Retention,
    analytics: Analytics,
    workers: LiveWorkers,
    events: JobEvents,
    stop: CancellationToken,
    depth: DepthCache,
    queue_gauge: QueueGauge,
    lane_shares: LaneShares,
    batch_progress: ProgressCache,
    console_libraries: PathBuf,
    started: Instant,
}

/// State that every handler shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Inner>);

impl AppState {
    /// Creates the state.
    pub(crate) fn new(dependencies: Dependencies) -> Self {
        let Dependencies {
            config,
            queue,
            result_retention,
            events,
            workers,
            stop,
        } = dependencies;
        Self(Arc::new(Inner {
            gate: Arc::new(Gate::new(&config.access)),
            webhooks: Arc::new(Webhooks::new(&config.webhooks, &config.access)),
            analytics: Analytics::new(&config.clickhouse),
            lane_shares: LaneShares::new(&config.queue),
            console_libraries: config.console_libraries(),
            config,
            queue,
            result_retention: Retention::new(result_retention),
            workers,
            events,
            stop,
            depth: DepthCache::default(),
            queue_gauge: QueueGauge::default(),
            batch_progress: ProgressCache::default(),
            started: Instant::now(),
        }))
    }

    /// The whole configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Limits of a request.
    pub(crate) fn limits(&self) -> &LimitsConfig {
        &self.0.config.limits
    }

    /// The `[api]` section.
    pub(crate) fn api(&self) -> &ApiConfig {
        &self.0.config.api
    }

    /// The `[http]` section.
    pub(crate) fn http(&self) -> &HttpConfig {
        &self.0.config.http
    }

    /// The guard against foreign web pages. `None` if callers need a key.
    pub(crate) fn browsers(&self) -> Option<BrowserGuard> {
        BrowserGuard::unless_keys(&self.0.config.http, &self.0.config.access)
    }

    /// Limits of a batch.
    pub(crate) fn batches(&self) -> &BatchesConfig {
        &self.0.config.batches
    }

    /// The callback policy and the webhook secrets.
    pub(crate) fn webhooks(&self) -> &Arc<Webhooks> {
        &self.0.webhooks
    }

    /// The progress of recently requested batches.
    pub(crate) fn batch_progress(&self) -> &ProgressCache {
        &self.0.batch_progress
    }

    /// Directory of the console's libraries.
    pub(crate) fn console_libraries(&self) -> &Path {
        &self.0.console_libraries
    }

    /// Authentication and rate limits.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.0.gate
    }

    /// How long the queue keeps results.
    pub(crate) fn result_retention(&self) -> Retention {
        self.0.result_retention
    }

    /// The queue.
    pub(crate) fn queue(&self) -> &dyn QueueBackend {
        &*self.0.queue
    }

    /// The lanes' shares of the queue.
    pub(crate) fn lane_shares(&self) -> &LaneShares {
        &self.0.lane_shares
    }

    /// The analytics database.
    pub(crate) fn analytics(&self) -> &Analytics {
        &self.0.analytics
    }

    /// The live workers.
    pub(crate) fn workers(&self) -> &LiveWorkers {
        &self.0.workers
    }

    /// Requests that wait for a result.
    pub(crate) fn waiters(&self) -> &Waiters {
        self.0.events.waiters()
    }

    /// The running jobs.
    pub(crate) fn running(&self) -> &Running {
        self.0.events.running()
    }

    /// Cancelled at shutdown.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// When the process started to listen for heartbeats.
    pub(crate) fn started(&self) -> Instant {
        self.0.started
    }

    /// Returns the queue depth, at most a second old.
    pub(crate) async fn depth(&self) -> Result<Arc<QueueDepth>, Refusal> {
        self.0.depth.get(self.queue()).await
    }

    /// Reports the queue depth as a metric.
    pub(crate) async fn report_queue(&self) {
        let depth = self.depth().await;
        self.0.queue_gauge.set(depth.as_deref().ok());
    }

    /// Returns the queue depth of the subject's tenant in its lane, at most a second old.
    pub(crate) async fn tenant_depth(&self, subject: &JobSubject) -> Result<Option<TenantDepth>, Refusal> {
        self.0.depth.of_tenant(self.queue(), subject).await
    }
}

impl FromRef<AppState> for BodyLimits {
    fn from_ref(state: &AppState) -> Self {
        Self {
            max_bytes: state.limits().body_bytes(),
            timeout: state.http().body_timeout(),
        }
    }
}
