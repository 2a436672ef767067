//! How the parts of the monitor are put together, started and stopped.

use anyhow::Context as _;
use precis_runtime::admin::{self, Readiness};
use precis_runtime::config::ClickHouseConfig;
use precis_runtime::liveness::Workers;
use precis_runtime::{Context, boot::NatsConnection, spans};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::database::{Database, MigrateError, migrate};
use crate::reaper::{Reaper, dead_letters, unserved};
use crate::sinks::clickhouse::table::Store;
use crate::{drift, metrics, rest, sinks};

/// Describes every metric of the monitor, and exports its counters from the start.
pub fn describe_metrics() {
    metrics::describe();
    sinks::forward::metrics::describe();
}

/// Runs the monitor until it is told to stop.
///
/// `/healthz`, `/readyz` and `/metrics` are served first and last. The reapers start as soon as NATS is there;
/// the sink waits for ClickHouse, however long it is away.
///
/// # Errors
/// When the port is taken, NATS can't be reached or is not set up as it should be, or the database is not one
/// that this program may write to.
pub async fn run(context: Context) -> anyhow::Result<()> {
    let listener = admin::bind("monitor.listen", context.config.monitor.listen).await?;
    describe_metrics();
    spans::start(&context.config.telemetry, "precis-monitor")?;
    let readiness = Readiness::default();
    let closing = CancellationToken::new();
    let connection = Arc::new(OnceLock::new());
    let service = rest::Service {
        queue: Arc::clone(&connection),
        database: Database::new(&context.config.clickhouse),
        clickhouse: context.config.clickhouse.clone(),
        limits: context.config.limits.job(),
    };
    let routes = admin::routes(readiness.clone()).merge(rest::routes(service, &context.config.access));
    let server = tokio::spawn(admin::serve(listener, routes, closing.clone()));
    tracing::info!(listen = %context.config.monitor.listen, "the monitor has started");
    let outcome = Box::pin(work(&context, &readiness, &connection)).await;
    readiness.set(false);
    closing.cancel();
    // A client that holds its connection open must not hold the process.
    if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(2), server).await {
        tracing::warn!(%error, "the server of monitor.listen failed");
    }
    outcome
}

async fn work(
    context: &Context,
    readiness: &Readiness,
    connection: &OnceLock<NatsConnection>,
) -> anyhow::Result<()> {
    let config = &context.config;
    let queue = tokio::select! {
        () = context.stop.cancelled() => return Ok(()),
        queue = context.queue("precis-monitor") => queue?,
    };
    let _only_once = connection.set(queue.clone());
    let workers = Workers::listen(&queue.client, context.stop.clone())
        .await
        .context("listen to workers' heartbeats")?;
    let reaper = Reaper::new(&queue).await?;
    let grace = Duration::from_secs(config.monitor.unserved_grace_seconds);
    let absent_grace = Duration::from_secs(config.monitor.absent_grace_seconds);
    let unserved = unserved::run(reaper.clone(), workers, grace, absent_grace, context.stop.clone());
    let dead_letters = dead_letters::run(reaper, queue.clone(), config.nats.clone(), context.stop.clone());
    let sink = sink(context, queue.clone(), readiness.clone());
    let forwarding = sinks::forward_all(config, &queue, &context.stop)?;
    // Each part ends by itself when it is told to stop; a failure of one ends the others where they are, which
    // nothing is lost by: what is not acknowledged comes again.
    tokio::try_join!(
        Box::pin(sink),
        Box::pin(async { forwarding.await.map_err(anyhow::Error::from) }),
        Box::pin(async { dead_letters.await.map_err(anyhow::Error::from) }),
        Box::pin(async {
            unserved.await;
            Ok(())
        }),
    )?;
    // What was acknowledged last is on its way before the process ends.
    queue.client.flush().await.context("send what is left to NATS")?;
    tracing::info!("the monitor has stopped");
    Ok(())
}

async fn sink(context: &Context, queue: NatsConnection, readiness: Readiness) -> anyhow::Result<()> {
    let config = &context.config;
    let database = Database::new(&config.clickhouse);
    sinks::clickhouse::watch_lag(&queue, &config.nats, &config.monitor, &context.stop).await?;
    if !wait_for_schema(&database, &config.clickhouse, &context.stop).await? {
        return Ok(());
    }
    let ack_wait = Duration::from_secs(config.monitor.ack_wait_seconds);
    let drift = drift::run(database.clone(), config.drift.clone(), context.stop.clone());
    let store = Store::new(database, ack_wait);
    let results = sinks::clickhouse::results::Sink {
        queue: queue.clone(),
        nats: config.nats.clone(),
        settings: config.monitor.clone(),
        store: store.clone(),
        readiness: readiness.clone(),
        stop: context.stop.clone(),
    };
    let references = sinks::clickhouse::references::References {
        queue,
        nats: config.nats.clone(),
        settings: config.monitor.clone(),
        store,
        readiness,
        stop: context.stop.clone(),
    };
    tokio::try_join!(
        Box::pin(results.run()),
        Box::pin(references.run()),
        Box::pin(async {
            drift.await;
            Ok(())
        }),
    )?;
    Ok(())
}

/// Tries until the database has the schema; false when the word to stop came first.
async fn wait_for_schema(
    database: &Database,
    settings: &ClickHouseConfig,
    stop: &CancellationToken,
) -> Result<bool, MigrateError> {
    let mut backoff = Backoff::default();
    loop {
        let outcome = tokio::select! {
            () = stop.cancelled() => return Ok(false),
            outcome = migrate(database, settings) => outcome,
        };
        match outcome {
            Ok(_) => return Ok(true),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                metrics::retry();
                tracing::warn!(
                    clickhouse = database.address,
                    %error,
                    "waiting for ClickHouse; results wait in the stream"
                );
                if backoff.wait_or_stop(stop).await {
                    return Ok(false);
                }
            }
        }
    }
}
