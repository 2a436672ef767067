//! Builds the gateway around a model in this process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use precis_api::{Dependencies, Gateway, JobEvents};
use precis_runtime::admin::{self, Readiness};
use precis_runtime::liveness::LiveWorkers;
use precis_runtime::{RoleContext, spans};
use precis_schemas::Token;
use precis_worker::local::LocalWorker;
use tokio_util::sync::CancellationToken;

use crate::dispatcher::Dispatcher;
use crate::metrics;
use crate::monitor::MonitorClient;
use crate::queue::MemoryQueue;

/// How long running jobs may go on after a stop. The server cuts off open requests a little later.
const GRACE: Duration = Duration::from_secs(8);
/// How long a stopping process waits for the last reports to the monitor.
const MAX_FLUSH: Duration = Duration::from_secs(3);

/// A gateway with a loaded model.
pub(crate) struct LocalGateway {
    /// The REST interface.
    pub(crate) gateway: Gateway,
    /// Ready, because the model is loaded.
    pub(crate) readiness: Readiness,
    /// Runs the jobs.
    pub(crate) dispatcher: Dispatcher,
}

/// Serves the gateway on `api.listen` until the process stops.
pub(crate) async fn run(context: RoleContext) -> anyhow::Result<()> {
    // Bind first, so that a port in use is reported at once.
    let listener = admin::bind("api.listen", context.config.api.listen).await?;
    spans::start(&context.config.telemetry, "precis-api")?;
    let local = tokio::select! {
        () = context.stop.cancelled() => return Ok(()),
        local = start(&context) => local?,
    };
    local
        .gateway
        .serve(listener, &local.readiness, context.stop)
        .await;
    local.dispatcher.flush(MAX_FLUSH).await;
    Ok(())
}

/// Loads the model and starts to run jobs.
///
/// # Errors
/// Returns an error if the configuration is inconsistent or the model cannot be loaded.
pub(crate) async fn start(context: &RoleContext) -> anyhow::Result<LocalGateway> {
    let config = &context.config;
    let served_as = Token::new("worker.serve_as", &config.worker.serve_as)?;
    anyhow::ensure!(
        config.api.default_model == served_as.as_str(),
        "api.default_model is `{}` and worker.serve_as is `{served_as}`: with api.engine = \"local\" there is one model, so \
         both must be the same",
        config.api.default_model
    );
    precis_api::describe_metrics();
    metrics::describe();
    let monitor = MonitorClient::new(&config.local)?;
    let settings = config.clone();
    let worker = tokio::task::spawn_blocking(move || LocalWorker::load(&settings))
        .await
        .context("loading the model")??;

    let (events, workers) = (JobEvents::default(), LiveWorkers::default());
    let queue = MemoryQueue::new(served_as, &config.local, events.clone());
    // Requests may wait for running jobs, so for them the process stops only after the grace period.
    let grace_over = CancellationToken::new();
    tokio::spawn(cancel_after_grace(context.stop.clone(), grace_over.clone()));
    let dispatcher = Dispatcher::start(
        worker,
        queue.clone(),
        events.clone(),
        workers.clone(),
        monitor,
        config.worker.max_batch,
        grace_over.clone(),
    );
    let readiness = Readiness::default();
    readiness.set(true);
    tracing::info!("the model runs in this process; jobs and results are lost when it ends");
    let gateway = Gateway::new(Dependencies {
        config: config.clone(),
        queue: Arc::new(queue),
        result_retention: Duration::from_secs(config.local.result_ttl_seconds),
        events,
        workers,
        stop: grace_over,
    });
    Ok(LocalGateway {
        gateway,
        readiness,
        dispatcher,
    })
}

async fn cancel_after_grace(stop: CancellationToken, grace_over: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
    grace_over.cancel();
}
