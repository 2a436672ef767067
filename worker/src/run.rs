//! Starts a worker, and drains it when the process is asked to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use precis_runtime::RoleContext;
use precis_runtime::admin::{self, Readiness};
use precis_runtime::boot::NatsConnection;
use precis_runtime::browser_guard::BrowserGuard;
use precis_runtime::config::WorkerConfig;
use precis_runtime::results::Results;
use precis_runtime::spans;
use precis_schemas::Token;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cancel::Cancellations;
use crate::hand_backs::HandBacks;
use crate::identity::{WorkerIdentity, worker_id};
use crate::job::JobRunner;
use crate::lease::Leases;
use crate::model::{ReloadTriggers, ServedModel, reload_on_trigger};
use crate::pace::PaceMeter;
use crate::pipeline::Pipeline;
use crate::progress::NatsProgress;
use crate::stages::fetch::{Fetcher, QueueSettings};
use crate::stages::publish_result::Publisher;
use crate::tenant_slots::TenantSlots;
use crate::{drain, heartbeat, metrics};

/// Longest time without progress for which a job is leased. After it, the job goes to another worker.
const MAX_LEASE: Duration = Duration::from_secs(600);
/// Longest wait for the server to receive the last messages.
const MAX_FLUSH: Duration = Duration::from_secs(5);

/// Runs a worker until it is asked to stop, and then drains it.
///
/// # Errors
/// When a port is taken, the model can't be loaded, or NATS can't be reached.
pub async fn run(context: RoleContext) -> anyhow::Result<()> {
    metrics::describe();
    spans::start(&context.config.telemetry, "precis-worker")?;
    let RoleContext { config, stop } = &context;
    let readiness = Readiness::default();
    // Cheap checks come first: a taken port or a missing queue is reported before the model is loaded.
    let admin = admin::bind_or_free(
        "worker.admin_listen",
        config.worker.admin_listen,
        WorkerConfig::preferred_admin_listen(),
    )
    .await?;
    let admin_address = admin.local_addr()?;
    let drained = CancellationToken::new();
    // Background tasks outlive the pipeline: acknowledgements and heartbeats continue while it drains.
    let mut tasks = JoinSet::new();
    let (routes, admin_stop) = (
        admin::routes(readiness.clone(), BrowserGuard::new(&config.http)),
        drained.clone(),
    );
    tasks.spawn(admin::serve(admin, routes, config.http.clone(), admin_stop));
    let triggers = ReloadTriggers::listen(&config.worker).context("listening for SIGHUP")?;
    let loaded = tokio::select! {
        loaded = connect_and_load(&context) => loaded?,
        () = stop.cancelled() => return Ok(()),
    };
    let (queue, identity, replace_model) = loaded;
    log_ready(&identity, admin_address);

    let leases = Leases::default();
    let ack_wait = Duration::from_secs(config.worker.ack_wait_seconds);
    let settings = QueueSettings {
        client: queue.client.clone(),
        jetstream: queue.jetstream.clone(),
        model: identity.model.borrow().signature.model.served_as.clone(),
        ack_wait,
        limits: config.queue.topology_limits(),
        nats: config.nats.clone(),
    };
    let lanes = &config.worker.lanes;
    let hand_backs = HandBacks::open(&queue.jetstream).await?;
    let fetcher = Fetcher::start(
        settings,
        lanes,
        &leases,
        MAX_LEASE,
        hand_backs.clone(),
        stop.clone(),
    )
    .await?;

    let drain_deadline = CancellationToken::new();
    let meter = PaceMeter::new(config.worker.max_batch);
    let cancellations = Cancellations::default();
    let results = Results::open(&queue.jetstream).await?;
    tasks.spawn(leases.clone().send_progress(ack_wait / 3, drained.clone()));
    tasks.spawn(drain::listen(
        queue.client.clone(),
        identity.id.clone(),
        leases.clone(),
        stop.clone(),
        drained.clone(),
    ));
    tasks.spawn(heartbeat::run(
        queue.client.clone(),
        identity.clone(),
        leases,
        meter.clone(),
        stop.clone(),
    ));
    tasks.spawn(cancel_after(
        stop.clone(),
        Duration::from_secs(config.worker.drain_seconds),
        drain_deadline.clone(),
    ));
    tasks.spawn(
        cancellations
            .clone()
            .listen(queue.client.clone(), drained.clone()),
    );
    tasks.spawn(reload_on_trigger(
        config.worker.clone(),
        identity.id.clone(),
        replace_model,
        triggers,
        stop.clone(),
    ));
    let pipeline = Pipeline {
        config: config.clone(),
        model: identity.model,
        runner: JobRunner {
            worker: identity.id,
            meter,
            embeddings: config.worker.embeddings,
            scoring: TenantSlots::for_half_of_the_cores(),
            redelivers: true,
        },
        cancellations,
        progress: NatsProgress(queue.client.clone()),
        publisher: Publisher::new(queue.jetstream.clone(), results.clone(), drain_deadline.clone()),
        results,
        hand_backs,
        drain_deadline: drain_deadline.clone(),
    };
    readiness.set(true);
    // Spawned: waking a runtime thread for each message is cheaper than waking the main thread.
    tokio::spawn(pipeline.run(fetcher))
        .await
        .context("the pipeline")?;
    readiness.set(false);
    drained.cancel();
    drain_deadline.cancel();
    while tasks.join_next().await.is_some() {}
    match tokio::time::timeout(MAX_FLUSH, queue.client.flush()).await {
        Ok(flushed) => flushed.context("flushing NATS")?,
        Err(_) => tracing::warn!("NATS is unreachable; unacknowledged jobs are delivered again"),
    }
    tracing::info!("worker stopped");
    Ok(())
}

/// Connects to the queue and loads the model. The sender replaces the model.
async fn connect_and_load(
    context: &RoleContext,
) -> anyhow::Result<(NatsConnection, WorkerIdentity, watch::Sender<Arc<ServedModel>>)> {
    let queue = context.queue("precis-worker").await?;
    let config = context.config.worker.clone();
    let id = worker_id(config.id.as_deref())?;
    let served_as = Token::new("worker.serve_as", &config.serve_as)?;
    let (lanes, max_batch) = (config.lanes.clone(), config.max_batch);
    let worker = id.clone();
    let model = tokio::task::spawn_blocking(move || ServedModel::load(&config, &worker, &served_as, false))
        .await
        .context("loading the model")??;
    let (replace_model, model) = watch::channel(Arc::new(model));
    let identity = WorkerIdentity {
        id,
        model,
        lanes,
        max_batch,
    };
    Ok((queue, identity, replace_model))
}

fn log_ready(identity: &WorkerIdentity, admin: SocketAddr) {
    let model = identity.model.borrow();
    let names = &model.signature.model;
    tracing::info!(
        worker = %identity.id,
        model = %names.name,
        revision = %names.revision,
        served_as = %names.served_as,
        device = %model.engine.info().device,
        %admin,
        "worker ready"
    );
}

/// Cancels `drain_deadline` after `stop` and a grace period.
async fn cancel_after(stop: CancellationToken, grace: Duration, drain_deadline: CancellationToken) {
    stop.cancelled().await;
    tokio::select! {
        () = tokio::time::sleep(grace) => {
            tracing::warn!("drain timeout reached; handing back unfinished jobs");
            drain_deadline.cancel();
        }
        () = drain_deadline.cancelled() => {}
    }
}
