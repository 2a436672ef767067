//! Closed workloads (each caller repeats as soon as it gets a response) and open workloads (calls arrive at random times).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use precis_runtime::clock::Instant;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::schedule::{poisson_arrivals, sleep_until};
use crate::stats::quantile;

/// Unmeasured time at the start of a closed workload.
const WARM_UP: Duration = Duration::from_millis(500);

/// A client that sends one call and waits for the response.
pub(super) trait Caller: Send + 'static {
    /// Calls once.
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Throughput and latency of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figures {
    /// Number of calls, including the warm-up.
    #[serde(skip)]
    pub(super) all_calls: usize,
    /// Completed calls per second.
    pub(super) per_second: f64,
    /// Median latency in milliseconds.
    pub(super) p50_ms: f64,
    /// 99th percentile of the latency in milliseconds.
    pub(super) p99_ms: f64,
}

impl Figures {
    fn of(mut seconds: Vec<f64>, all_calls: usize, wall: f64) -> Self {
        Self {
            all_calls,
            per_second: seconds.len() as f64 / wall,
            p50_ms: 1e3 * quantile(&mut seconds, 0.5),
            p99_ms: 1e3 * quantile(&mut seconds, 0.99),
        }
    }
}

async fn join_all(mut tasks: JoinSet<anyhow::Result<Vec<f64>>>) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::new();
    while let Some(task) = tasks.join_next().await {
        all.extend(task??);
    }
    Ok(all)
}

/// Runs a closed workload for `duration` after the warm-up.
///
/// # Errors
/// If a call fails.
pub(super) async fn run_closed(callers: Vec<impl Caller>, duration: Duration) -> anyhow::Result<Figures> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + duration;
    let all_calls = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let all_calls = all_calls.clone();
        tasks.spawn(async move {
            let mut seconds = Vec::new();
            loop {
                let before = Instant::now();
                if before >= end {
                    return Ok(seconds);
                }
                caller.call().await?;
                all_calls.fetch_add(1, Ordering::Relaxed);
                // Counting calls by their end counts a call that straddles a boundary exactly once.
                let after = Instant::now();
                if (begin..end).contains(&after) {
                    seconds.push((after - before).as_secs_f64());
                }
            }
        });
    }
    let seconds = join_all(tasks).await?;
    let all_calls = all_calls.load(Ordering::Relaxed);
    Ok(Figures::of(seconds, all_calls, duration.as_secs_f64()))
}

/// Runs an open workload: calls arrive by a Poisson process and wait for a free caller.
///
/// Latency counts from the arrival, so it includes that wait.
///
/// # Errors
/// If a call fails.
pub(super) async fn run_open(
    callers: Vec<impl Caller>,
    per_second: f64,
    duration: Duration,
) -> anyhow::Result<Figures> {
    let count = (per_second * duration.as_secs_f64()).ceil() as usize;
    let arrivals = poisson_arrivals(count, per_second, 42);
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let receiver = receiver.clone();
        tasks.spawn(async move {
            let mut seconds = Vec::new();
            loop {
                let Some(arrived) = receiver.lock().await.recv().await else {
                    return Ok(seconds);
                };
                caller.call().await?;
                let latency: Duration = Instant::now() - arrived;
                seconds.push(latency.as_secs_f64());
            }
        });
    }
    // The runtime's timers have a resolution of a millisecond, which is too coarse.
    let clock = tokio::task::spawn_blocking(move || {
        for at in arrivals {
            sleep_until(start, at);
            // Fails once every caller has failed, and `join_all` returns their error.
            let _ = sender.send(start + Duration::from_secs_f64(at));
        }
    });
    let seconds = join_all(tasks).await?;
    clock.await?;
    Ok(Figures::of(seconds, count, start.elapsed().as_secs_f64()))
}
