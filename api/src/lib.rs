//! The REST gateway of Precis.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`router`] | which route goes where |
//! | [`routes`] | the handlers: read the request, call what follows, write the answer |
//! | [`submit`], [`model`] | checks a job, finds its model, publishes it |
//! | [`sync`] | publishes and waits, for routes that answer with the summary itself |
//! | [`lookup`], [`view`], [`depth`] | what is known of a job, and how REST shows it |
//! | [`eta`] | when a job that waits will have ended |
//! | [`wait`], [`progress`], [`signs`] | one subscription for everybody who waits; who has begun with what |
//! | [`events`] | what happens to a job, as a stream |
//! | [`cancel`], [`ending`] | taking back a job |
//! | [`group`] | several jobs in one request |
//! | [`idempotency`] | the same request twice is one |
//! | [`analytics`] | all that is asked of ClickHouse |
//! | [`mod@local`] | instead of NATS: the model in the process, jobs and results in its memory |
//! | [`lambda`] | the router inside of a Lambda function |
//! | [`queue`] | all that is asked of NATS, behind a trait |
//! | [`extract`], [`prefer`], [`problem`] | reading requests; refusing them |
//! | [`batch`] | many rows in one upload, many results in one download |
//! | [`webhook`] | the ends of jobs and batches, posted to whoever asked for it |
//! | [`access`] | who is calling, and how much they may do |
//! | [`layers`], [`metrics`], [`serve`], [`slow`], [`idle`] | request ids, log lines, metrics; the server and its end |
//!
//! On NATS the gateway keeps no state of its own: any replica answers for any job.

mod access;
mod analytics;
mod args;
mod batches;
mod compat;
mod http;
mod jobs;
mod lambda;
mod local;
mod metrics;
mod openapi;
mod queue;
mod router;
mod service;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watch;
mod webhooks;

pub use metrics::describe as describe_metrics;

use std::sync::Arc;
use std::time::Duration;

pub use args::ApiArgs;
use precis_runtime::admin::{self, Readiness};
use precis_runtime::config::EngineChoice;
use precis_runtime::liveness::Workers;
use precis_runtime::{Config, Context, spans};
use tokio::net::TcpListener;

use crate::access::Gate;
use crate::analytics::Analytics;
use crate::queue::NatsQueue;
use crate::state::{AppState, Parts};
use crate::watch::progress::Running;
use crate::watch::wait::Waiters;
use crate::webhooks::Webhooks;

/// How long a process that ends waits until the monitor is told of its last summaries.
const LONGEST_FLUSH: Duration = Duration::from_secs(3);

/// Serves the REST interface until the process is to stop, then lets open requests finish. Inside of a Lambda function
/// it serves invocations instead.
///
/// # Errors
/// When the port can't be bound, NATS can't be reached, the streams are not as they should be, or the model can't be
/// loaded.
pub async fn run(context: Context) -> anyhow::Result<()> {
    if std::env::var_os(lambda::RUNTIME_API).is_some() {
        return Box::pin(lambda::run(&context)).await;
    }
    match context.config.api.engine {
        EngineChoice::Queue => Box::pin(run_on_queue(context)).await,
        EngineChoice::Local => Box::pin(run_alone(context)).await,
    }
}

/// With workers behind NATS.
///
/// The port is bound before anything else, so that a taken one is noticed at once.
async fn run_on_queue(context: Context) -> anyhow::Result<()> {
    let listener = admin::bind("api.listen", context.config.api.listen).await?;
    metrics::describe();
    spans::start(&context.config.telemetry, "precis-api")?;
    let stop = context.stop.clone();
    let connection = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        connection = context.queue("precis-api") => connection?,
    };
    let queue = NatsQueue::open(connection.clone()).await?;
    let workers = Workers::listen(&connection.client, stop.clone()).await?;
    let waiters = Waiters::default();
    let running = Running::default();
    watch::wait::listen(&connection.client, waiters.clone(), running.clone(), stop.clone()).await?;
    watch::progress::listen(&connection.client, running.clone(), stop.clone()).await?;
    let readiness = Readiness::default();
    tokio::spawn(queue::nats::watch_readiness(
        queue.clone(),
        readiness.clone(),
        stop.clone(),
    ));

    let state = AppState::new(Parts {
        limits: context.config.limits.clone(),
        api: context.config.api.clone(),
        http: context.config.http.clone(),
        batches: context.config.batches.clone(),
        webhooks: Webhooks::new(&context.config.webhooks, &context.config.access),
        gate: Arc::new(Gate::new(&context.config.access)),
        result_ttl_hours: context.config.queue.result_ttl_hours,
        queue: Arc::new(queue),
        analytics: Analytics::new(&context.config.clickhouse),
        workers,
        waiters,
        running,
        stop: stop.clone(),
    });
    announce(&listener, &context.config)?;
    let nats = &context.config.nats;
    webhooks::run(state.clone(), connection, nats.replicas, nats.manage_topology).await?;
    let router = router::router(state, readiness);
    http::serve::serve(listener, router, &context.config.http, stop).await;
    Ok(())
}

fn announce(listener: &TcpListener, config: &Config) -> anyhow::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    if config.access.keys.is_empty() && !config.api.listen.ip().is_loopback() {
        tracing::warn!("there are no keys: whoever reaches this address may use the API");
    }
    Ok(())
}

/// With the model in this process.
async fn run_alone(context: Context) -> anyhow::Result<()> {
    let listener = admin::bind("api.listen", context.config.api.listen).await?;
    metrics::describe();
    spans::start(&context.config.telemetry, "precis-api")?;
    let local = tokio::select! {
        () = context.stop.cancelled() => return Ok(()),
        local = local::start(&context) => local?,
    };
    announce(&listener, &context.config)?;
    let router = router::router(local.state, local.readiness);
    http::serve::serve(listener, router, &context.config.http, context.stop).await;
    local.desk.flush(LONGEST_FLUSH).await;
    Ok(())
}
