//! Results out of the stream into ClickHouse by the monitor, rows that are ready put there by a plain loop, and results put there
//! by a plain loop that reads and scores them first.

use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::Instant;

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{Info, PullConsumer};
use clickhouse::Client;
use futures::{StreamExt, TryStreamExt};
use precis_monitor::row::{self, PredictionRow};
use precis_monitor::{Scorer, StreamPosition, TextFilter};
use precis_runtime::boot::RoleContext;
use precis_schemas::topology::{RESULTS, clickhouse_sink_consumer};
use precis_schemas::{JobResult, subject};
use tokio_util::sync::CancellationToken;

use super::report::Round;

/// Publishes on their way at a time.
const IN_FLIGHT: usize = 256;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Longest that something is waited for.
const PATIENCE: Duration = Duration::from_secs(900);

/// A monitor in this process, on a runtime of its own.
struct Monitor {
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Monitor {
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

    /// Looks until there is something.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return Ok(found);
            }
            ensure!(!self.running.is_finished(), "the monitor has ended: {what}");
            ensure!(Instant::now() < give_up, "waited too long: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The same results by all ways.
pub(super) async fn round(
    context: &RoleContext,
    client: &Client,
    results: &[JobResult],
) -> anyhow::Result<Round> {
    let queue = context.queue("precis-bench").await?;
    let last = publish(&queue.jetstream, results).await?;
    let begun = last - results.len() as u64;
    let monitor = Monitor::start(context);
    let info = async || info(&queue.jetstream).await;
    let first_look = async || info().await.filter(|info| info.delivered.stream_sequence > begun);
    monitor.until("the first results are pulled", first_look).await?;
    let begin = Instant::now();
    let all_done = async || {
        let info = info().await?;
        (info.ack_floor.stream_sequence >= last).then_some(())
    };
    monitor.until("all results are stored", all_done).await?;
    let monitored = results.len() as f64 / begin.elapsed().as_secs_f64();
    monitor.stop().await?;

    let rows = rows(context, results);
    let block_rows = context.config.monitor.max_block_rows;
    let plain = Loop::into(client, "plain_rows").await?;
    let begin = Instant::now();
    for block in rows.chunks(block_rows) {
        plain.insert(block).await?;
    }
    let plain = rows.len() as f64 / begin.elapsed().as_secs_f64();
    drop(rows);

    let bodies: Vec<Vec<u8>> = results.iter().map(serde_json::to_vec).collect::<Result<_, _>>()?;
    let scoring = Loop::into(client, "scored_rows").await?;
    let begin = Instant::now();
    for block in bodies.chunks(block_rows) {
        let read: Result<Vec<JobResult>, _> = block.iter().map(|body| serde_json::from_slice(body)).collect();
        scoring.insert(&self::rows(context, &read?)).await?;
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
            "{count} of {} rows are in {table}",
            results.len()
        );
    }
    Ok(Round {
        monitored,
        plain,
        scoring,
    })
}

/// Blocks one after another into a table like that of the monitor, without its views.
struct Loop<'a> {
    client: &'a Client,
    table: &'static str,
}

impl<'a> Loop<'a> {
    async fn into(client: &'a Client, table: &'static str) -> anyhow::Result<Self> {
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

/// Publishes all; the sequence of the last in the stream.
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
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    sequences.into_iter().max().context("nothing to publish")
}

/// What the server says of the monitor's consumer; none while it isn't there.
async fn info(jetstream: &jetstream::Context) -> Option<Info> {
    let stream = jetstream.get_stream(RESULTS).await.ok()?;
    let consumer: PullConsumer = stream.get_consumer(&clickhouse_sink_consumer().name).await.ok()?;
    Some(consumer.cached_info().clone())
}

/// The rows that the monitor makes of results.
fn rows(context: &RoleContext, results: &[JobResult]) -> Vec<PredictionRow> {
    let (scorer, texts) = (Scorer::default(), TextFilter::new(&context.config.monitor));
    let one = |result: &JobResult| {
        let stored = StreamPosition {
            sequence: result.job_sequence,
            published_at: result.finished_at,
        };
        row::build(result, stored, &scorer, texts)
    };
    results.iter().map(one).collect()
}

/// Seconds in which a monitor that starts has compared all models with their baselines, which it pins first.
pub(super) async fn drift(context: &RoleContext, client: &Client) -> anyhow::Result<f64> {
    let monitor = Monitor::start(context);
    let begin = Instant::now();
    let compared = async || {
        let sql = "SELECT count() FROM drift_days";
        let count: u64 = client.query_raw(sql).fetch_one().await.ok()?;
        (count > 0).then_some(())
    };
    monitor.until("drift is computed", compared).await?;
    let seconds = begin.elapsed().as_secs_f64();
    monitor.stop().await?;
    Ok(seconds)
}
