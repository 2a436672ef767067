//! Starts the parts of the monitor and stops them.

use anyhow::Context as _;
use precis_runtime::admin::{self, Readiness};
use precis_runtime::browser_guard::BrowserGuard;
use precis_runtime::config::ClickHouseConfig;
use precis_runtime::liveness::LiveWorkers;
use precis_runtime::{RoleContext, boot::NatsConnection, spans};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, MigrateError, backoff, migrate, rollups};
use crate::reaper::{Reaper, max_deliveries, stranded, unserved};
use crate::samples::Samples;
use crate::sinks::clickhouse::{PredictionTable, SinkContext};
use crate::{backlog, drift, metrics, requests, rest, retention, shared_names, sinks};

/// Describes every metric of the monitor, and exports its counters from the start.
pub fn describe_metrics() {
    metrics::describe();
    sinks::forward::metrics::describe();
}

/// Runs the monitor until shutdown.
///
/// The admin server starts first and stops last. The reapers start once NATS is connected. The sinks wait for
/// ClickHouse, however long it is down.
///
/// # Errors
/// When the port is in use, NATS can't be reached or its topology is wrong, or the database must not be changed by this
/// version.
pub async fn run(context: RoleContext) -> anyhow::Result<()> {
    let listener = admin::bind("monitor.listen", context.config.monitor.listen).await?;
    describe_metrics();
    spans::start(&context.config.telemetry, "precis-monitor")?;
    let readiness = Readiness::default();
    let closing = CancellationToken::new();
    let connection = Arc::new(OnceLock::new());
    let database = Database::new(&context.config.clickhouse);
    let samples = Samples::new(database.clone(), &context.config);
    let state = rest::RestState {
        queue: Arc::clone(&connection),
        database: database.clone(),
        samples: samples.clone(),
        clickhouse: context.config.clickhouse.clone(),
        limits: context.config.limits.job(),
    };
    let admin = admin::routes(readiness.clone(), BrowserGuard::new(&context.config.http));
    let routes = admin.merge(rest::routes(state, &context.config));
    let server = tokio::spawn(admin::serve(
        listener,
        routes,
        context.config.http.clone(),
        closing.clone(),
    ));
    tracing::info!(listen = %context.config.monitor.listen, "monitor started");
    let outcome = Box::pin(work(&context, &readiness, &connection, database, samples)).await;
    readiness.set(false);
    closing.cancel();
    // A client that keeps its connection open must not delay the exit.
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
    outcome
}

async fn work(
    context: &RoleContext,
    readiness: &Readiness,
    connection: &OnceLock<NatsConnection>,
    database: Database,
    samples: Samples,
) -> anyhow::Result<()> {
    let config = &context.config;
    let queue = tokio::select! {
        () = context.stop.cancelled() => return Ok(()),
        queue = context.queue("precis-monitor") => queue?,
    };
    let _set_once = connection.set(queue.clone());
    let workers = LiveWorkers::listen(&queue.client, context.stop.clone())
        .await
        .context("subscribe to worker heartbeats")?;
    let reaper = Reaper::new(&queue).await?;
    let grace = Duration::from_secs(config.monitor.unserved_grace_seconds);
    let absent_grace = Duration::from_secs(config.monitor.absent_grace_seconds);
    let backlog = backlog::run(
        &queue,
        reaper.jobs.clone(),
        workers.clone(),
        config,
        context.stop.clone(),
    );
    let shared_names = shared_names::run(workers.clone(), context.stop.clone());
    let retention = retention::run(queue.jetstream.clone(), context.stop.clone());
    let unserved = unserved::run(reaper.clone(), workers, grace, absent_grace, context.stop.clone());
    let stranded = stranded::run(reaper.clone(), context.stop.clone());
    // Boxed, because a future that contains it would be large.
    let max_deliveries = Box::pin(max_deliveries::run(
        reaper,
        queue.clone(),
        config.into(),
        context.stop.clone(),
    ));
    let storing = store_predictions(context, queue.clone(), readiness.clone(), database);
    let answering = requests::run(queue.clone(), samples, context.stop.clone());
    let forwarding = sinks::forward_all(config, &queue, &context.stop)?;
    // Every part ends on shutdown. If one fails, the others are dropped: unacknowledged messages are
    // redelivered.
    tokio::try_join!(
        Box::pin(storing),
        Box::pin(answering),
        Box::pin(async { forwarding.await.map_err(anyhow::Error::from) }),
        Box::pin(backlog),
        Box::pin(async { max_deliveries.await.map_err(anyhow::Error::from) }),
        Box::pin(async {
            tokio::join!(unserved, stranded, shared_names, retention);
            Ok(())
        }),
    )?;
    // Send the last acknowledgements before the process ends.
    queue
        .client
        .flush()
        .await
        .context("flush the connection to NATS")?;
    tracing::info!("monitor stopped");
    Ok(())
}

async fn store_predictions(
    context: &RoleContext,
    queue: NatsConnection,
    readiness: Readiness,
    database: Database,
) -> anyhow::Result<()> {
    let config = &context.config;
    let ack_wait = Duration::from_secs(config.monitor.ack_wait_seconds);
    let sink = SinkContext {
        queue,
        topology: config.into(),
        settings: config.monitor.clone(),
        table: PredictionTable::new(database.clone(), ack_wait),
        readiness,
        stop: context.stop.clone(),
    };
    sinks::clickhouse::watch_lag(&sink).await?;
    if !wait_for_schema(&database, &config.clickhouse, &context.stop).await? {
        return Ok(());
    }
    let rollups = rollups::run(database.clone(), context.stop.clone());
    let drift = drift::run(database, config.drift.clone(), context.stop.clone());
    tokio::try_join!(
        Box::pin(sinks::clickhouse::results::run(sink.clone())),
        Box::pin(sinks::clickhouse::references::run(sink)),
        Box::pin(async {
            drift.await;
            Ok(())
        }),
        Box::pin(async {
            rollups.await;
            Ok(())
        }),
    )?;
    Ok(())
}

/// Retries until the schema is up to date. Returns `false` on shutdown.
async fn wait_for_schema(
    database: &Database,
    settings: &ClickHouseConfig,
    stop: &CancellationToken,
) -> Result<bool, MigrateError> {
    let mut backoff = backoff();
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
                    "ClickHouse unavailable; results wait in the stream; retrying"
                );
                if !backoff.wait(stop).await {
                    return Ok(false);
                }
            }
        }
    }
}
