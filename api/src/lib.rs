//! The REST gateway of Precis.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`gateway`] | the state that every handler shares, the router of all areas, the layers around it, health |
//! | [`http`] | extractors, headers and errors |
//! | [`access`] | API keys, tenants, rate limits and quotas |
//! | [`jobs`] | submits, looks up, cancels and scores jobs; idempotency keys; event streams |
//! | [`watch`] | waits for results and follows progress |
//! | [`batches`] | takes uploads of many rows and returns their results |
//! | [`compat`] | the routes of the services that Precis replaces |
//! | [`console`] | the page for browsers |
//! | [`analytics`] | answers named queries from ClickHouse |
//! | [`operations`] | shows the queue and the workers; reads and replays dead letters |
//! | [`webhooks`] | posts the end of jobs and batches to their callbacks |
//! | [`queue`] | the trait for the queue, and its implementation on NATS |
//! | [`openapi`] | the OpenAPI document and its page |
//! | [`metrics`] | metrics |
//!
//! On NATS the gateway keeps no state of its own: any replica answers for any job.
//!
//! [`run`] serves a gateway on NATS. To serve one on another queue, implement [`queue::QueueBackend`], report what
//! happens to its jobs through [`JobEvents`], and build a [`Gateway`] from both.

mod access;
mod analytics;
mod batches;
mod compat;
mod console;
mod gateway;
mod http;
mod jobs;
mod metrics;
mod openapi;
mod operations;
pub mod queue;
#[cfg(test)]
mod testing;
mod watch;
mod webhooks;

pub use gateway::{Dependencies, Gateway};
pub use metrics::describe as describe_metrics;
pub use watch::job_events::JobEvents;

use std::sync::Arc;
use std::time::Duration;

use precis_runtime::admin::{self, Readiness};
use precis_runtime::boot::RunArgs;
use precis_runtime::config::EngineChoice;
use precis_runtime::liveness::LiveWorkers;
use precis_runtime::{Config, RoleContext, spans};

use crate::queue::NatsQueue;

/// Options of the gateway.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ApiArgs {
    /// Options of every role.
    #[command(flatten)]
    pub run: RunArgs,
    /// Where jobs run: queue (workers behind NATS) or local (the model in this process, `precis api` only) [api.engine]
    #[arg(long)]
    pub engine: Option<String>,
    /// Address of the HTTP server [api.listen]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The model for --engine local: embedded, a folder, or a hub id with an optional @revision [worker.model]
    #[arg(long)]
    pub model: Option<String>,
}

impl ApiArgs {
    /// Returns the options of the role, with this command's own ones as overrides of the configuration.
    pub fn run_args(&self) -> RunArgs {
        let mut run = self.run.clone();
        let options = [
            ("api.engine", &self.engine),
            ("api.listen", &self.listen),
            ("worker.model", &self.model),
        ];
        for (key, value) in options {
            if let Some(value) = value {
                run.config.overrides.push(format!("{key}={value}"));
            }
        }
        run
    }
}

/// Checks that the configuration asks for a gateway on a queue.
///
/// # Errors
/// Returns an error if `api.engine` is `local`: this crate does not contain the model.
pub fn check_config(config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.api.engine == EngineChoice::Queue,
        "configuration: api.engine = \"local\" runs the model in the gateway's process, which `precis-api` does not \
         support: start `precis api --engine local` instead"
    );
    Ok(())
}

/// Serves the gateway on NATS until the process stops, then lets open requests finish.
///
/// # Errors
/// Returns an error if [`check_config`] does, the port cannot be bound, NATS cannot be reached, or the streams are
/// wrong.
pub async fn run(context: RoleContext) -> anyhow::Result<()> {
    let config = &context.config;
    check_config(config)?;
    // Bind first, so that a port in use is reported at once.
    let listener = admin::bind("api.listen", config.api.listen).await?;
    metrics::describe();
    spans::start(&config.telemetry, "precis-api")?;
    let stop = context.stop.clone();
    let connection = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        connection = context.queue("precis-api") => connection?,
    };
    let client = &connection.client;
    let queue = Box::pin(NatsQueue::open(connection.clone())).await?;
    let workers = LiveWorkers::listen(client, stop.clone()).await?;
    let events = JobEvents::default();
    let (waiters, running) = (events.waiters(), events.running());
    watch::wait::listen(client, waiters.clone(), running.clone(), stop.clone()).await?;
    watch::progress::listen(client, running.clone(), stop.clone()).await?;
    let readiness = Readiness::default();
    let watched = queue::nats::watch_readiness(queue.clone(), readiness.clone(), stop.clone());
    tokio::spawn(watched);

    let gateway = Gateway::new(Dependencies {
        config: config.clone(),
        queue: Arc::new(queue),
        result_retention: Duration::from_secs(config.queue.result_ttl_hours * 3_600),
        events,
        workers,
        stop: stop.clone(),
    });
    let state = gateway.state().clone();
    let webhooks = state.webhooks().clone();
    webhooks::sender::start(webhooks, state, connection, config.into(), stop.clone()).await?;
    gateway.serve(listener, &readiness, stop).await;
    Ok(())
}

#[cfg(test)]
mod config_tests {
    use super::*;

    #[test]
    fn a_local_engine_is_refused_with_the_command_that_has_one() {
        let mut config = Config::default();
        assert!(check_config(&config).is_ok());
        config.api.engine = EngineChoice::Local;
        let error = check_config(&config).unwrap_err().to_string();
        assert!(error.contains("`precis api --engine local`"), "{error}");
    }
}
