//! Runs many operations at once.

use futures::{StreamExt, TryStreamExt};
use precis_runtime::clock::Instant;

use super::messages::Messages;
use crate::processes::{NATS_SERVER, difference, processor_seconds};
use crate::stats::quantile;

/// Operations at once while a stream is filled.
const FILL_CONCURRENCY: usize = 512;
/// Operations at once while latencies are measured, so that the server isn't saturated.
const CONCURRENCY: usize = 8;

/// Latencies and cost of one kind of operation.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Cost {
    /// Median latency, in milliseconds.
    pub(super) p50_ms: f64,
    /// 99th percentile of latencies, in milliseconds.
    pub(super) p99_ms: f64,
    /// Processor time of the NATS server per operation, in microseconds.
    pub(super) server_cpu_us: f64,
}

/// Runs `operation` on every number and measures it.
pub(super) async fn run(
    messages: &Messages,
    operation: impl AsyncFn(&Messages, u64) -> anyhow::Result<()>,
    numbers: impl Iterator<Item = u64>,
) -> anyhow::Result<Cost> {
    let cpu = processor_seconds();
    let timed = async |number| {
        let begin = Instant::now();
        operation(messages, number).await?;
        anyhow::Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    let mut latencies: Vec<f64> = futures::stream::iter(numbers)
        .map(timed)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    let spent = difference(&cpu, &processor_seconds());
    let server = spent.get(NATS_SERVER).copied().unwrap_or(f64::NAN);
    Ok(Cost {
        server_cpu_us: server * 1e6 / latencies.len() as f64,
        p50_ms: quantile(&mut latencies, 0.50),
        p99_ms: quantile(&mut latencies, 0.99),
    })
}

/// Runs `operation` on every number as fast as the server allows.
pub(super) async fn run_unmeasured(
    messages: &Messages,
    operation: impl AsyncFn(&Messages, u64) -> anyhow::Result<()>,
    numbers: impl Iterator<Item = u64>,
) -> anyhow::Result<()> {
    futures::stream::iter(numbers)
        .map(async |number| operation(messages, number).await)
        .buffer_unordered(FILL_CONCURRENCY)
        .try_collect()
        .await
}
