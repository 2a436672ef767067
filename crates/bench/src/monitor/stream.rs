//! Storing results in ClickHouse three ways: the monitor reads the stream, a plain loop inserts finished rows, and a plain
//! loop parses, scores and inserts results.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{Info, PullConsumer};
use clickhouse::Client;
use futures::{StreamExt, TryStreamExt};
use precis_monitor::row::{self, PredictionRow};
use precis_monitor::{Scorer, StreamPosition, TextFilter};
use precis_runtime::boot::RoleContext;
use precis_runtime::clock::Instant;
use precis_schemas::topology::{RESULTS, clickhouse_sink_consumer};
use precis_schemas::{JobResult, subject};
use tokio_util::sync::CancellationToken;

use super::report::Round;

/// Maximum unacknowledged publishes.
const MAX_IN_FLIGHT: usize = 256;
/// Interval between polls of the monitor's progress.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum wait for the monitor.
const TIMEOUT: Duration = Duration::from_secs(900);

/// A monitor in this process, on its own runtime.
struct MonitorThread {
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl MonitorThread {
    fn start(context: &RoleContext) -> Self {
        let stop = context.stop.child_token();
        let context = RoleContext {
            config: context.config.clone(),
            stop: stop.clone(),
        };
        let run = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(precis_monitor::run(context))
        };
        Self {
            stop,
            running: std::thread::spawn(run),
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        match tokio::task::spawn_blocking(|| self.running.join()).await? {
            Ok(outcome) => outcome,
            Err(_) => anyhow::bail!("the monitor panicked"),
        }
    }

    /// Polls until `poll` returns a value. `what` describes it in errors.
    async fn wait_until<T>(&self, what: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(found) = poll().await {
                return Ok(found);
            }
            ensure!(
                !self.running.is_finished(),
                "the monitor stopped while waiting until {what}"
            );
            ensure!(Instant::now() < deadline, "timed out waiting until {what}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Stores the same results in all three ways and checks that every row arrived.
pub(super) async fn run_round(
    context: &RoleContext,
    client: &Client,
    results: &[JobResult],
) -> anyhow::Result<Round> {
    let queue = context.queue("precis-bench").await?;
    let last = publish(&queue.jetstream, results).await?;
    let before_first = last - results.len() as u64;
    let monitor = MonitorThread::start(context);
    let info = async || consumer_info(&queue.jetstream).await;
    let pulled = async || {
        info()
            .await
            .filter(|info| info.delivered.stream_sequence > before_first)
    };
    monitor
        .wait_until("the monitor has pulled the first results", pulled)
        .await?;
    let begin = Instant::now();
    let stored = async || {
        let info = info().await?;
        (info.ack_floor.stream_sequence >= last).then_some(())
    };
    monitor.wait_until("all results are stored", stored).await?;
    let monitored = results.len() as f64 / begin.elapsed().as_secs_f64();
    monitor.stop().await?;

    let rows = to_rows(context, results);
    let block_rows = context.config.monitor.max_block_rows;
    let plain = InsertLoop::create(client, "plain_rows").await?;
    let begin = Instant::now();
    for block in rows.chunks(block_rows) {
        plain.insert(block).await?;
    }
    let plain = rows.len() as f64 / begin.elapsed().as_secs_f64();
    drop(rows);

    let bodies: Vec<Vec<u8>> = results.iter().map(serde_json::to_vec).collect::<Result<_, _>>()?;
    let scoring = InsertLoop::create(client, "scored_rows").await?;
    let begin = Instant::now();
    for block in bodies.chunks(block_rows) {
        let parsed: Result<Vec<JobResult>, _> =
            block.iter().map(|body| serde_json::from_slice(body)).collect();
        scoring.insert(&to_rows(context, &parsed?)).await?;
    }
    let scoring = bodies.len() as f64 / begin.elapsed().as_secs_f64();
    for table in ["prediction_versions", "plain_rows", "scored_rows"] {
        let sql = format!(
            "SELECT count() FROM {table} WHERE job_sequence >= {}",
            results[0].job_sequence
        );
        let count: u64 = client.query_raw(&sql).fetch_one().await?;
        ensure!(
            count == results.len() as u64,
            "{table} has {count} of {} rows",
            results.len()
        );
    }
    Ok(Round {
        monitored,
        plain,
        scoring,
    })
}

/// Inserts blocks one after another into a copy of the monitor's table that feeds no views.
struct InsertLoop<'a> {
    client: &'a Client,
    table: &'static str,
}

impl<'a> InsertLoop<'a> {
    async fn create(client: &'a Client, table: &'static str) -> anyhow::Result<Self> {
        let create = format!("CREATE TABLE IF NOT EXISTS {table} AS prediction_versions");
        client.query_raw(&create).execute().await?;
        Ok(Self { client, table })
    }

    async fn insert(&self, block: &[PredictionRow]) -> anyhow::Result<()> {
        let mut insert = self.client.insert::<PredictionRow>(self.table).await?;
        for row in block {
            insert.write(row).await?;
        }
        Ok(insert.end().await?)
    }
}

/// Publishes all results and returns the highest stream sequence.
async fn publish(jetstream: &jetstream::Context, results: &[JobResult]) -> anyhow::Result<u64> {
    let one = |result: &JobResult| {
        let (subject, body) = (subject::result_of(&result.id), serde_json::to_vec(result));
        async move {
            let sent = jetstream.publish(subject, body?.into()).await?;
            anyhow::Ok(sent.await?.sequence)
        }
    };
    let sent: Vec<_> = results.iter().map(one).collect();
    let sequences: Vec<u64> = futures::stream::iter(sent)
        .buffer_unordered(MAX_IN_FLIGHT)
        .try_collect()
        .await?;
    sequences
        .into_iter()
        .max()
        .context("--results must be at least 1")
}

/// Returns the state of the monitor's consumer; `None` while it doesn't exist.
async fn consumer_info(jetstream: &jetstream::Context) -> Option<Info> {
    let stream = jetstream.get_stream(RESULTS).await.ok()?;
    let consumer: PullConsumer = stream.get_consumer(&clickhouse_sink_consumer().name).await.ok()?;
    Some(consumer.cached_info().clone())
}

/// Returns the rows that the monitor inserts for results.
fn to_rows(context: &RoleContext, results: &[JobResult]) -> Vec<PredictionRow> {
    let (scorer, texts) = (Scorer::default(), TextFilter::new(&context.config.monitor));
    let one = |result: &JobResult| {
        let position = StreamPosition {
            sequence: result.job_sequence,
            published_at: result.finished_at,
        };
        row::build(result, position, &scorer, texts)
    };
    results.iter().map(one).collect()
}

/// Starts a monitor and returns the seconds until it has pinned baselines and computed drift for all models.
pub(super) async fn measure_drift(context: &RoleContext, client: &Client) -> anyhow::Result<f64> {
    let monitor = MonitorThread::start(context);
    let begin = Instant::now();
    let computed = async || {
        let sql = "SELECT count() FROM drift_days";
        let count: u64 = client.query_raw(sql).fetch_one().await.ok()?;
        (count > 0).then_some(())
    };
    monitor.wait_until("drift is computed", computed).await?;
    let seconds = begin.elapsed().as_secs_f64();
    monitor.stop().await?;
    Ok(seconds)
}
