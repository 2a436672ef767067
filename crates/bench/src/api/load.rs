//! Load: callers that call again as soon as they are answered, or calls that come when they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

use serde::Serialize;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::super::arrivals::{poisson, sleep_until};
use super::super::clock::quantile;

/// How long callers call before they are measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// Somebody who calls and waits for the answer.
pub(super) trait Caller: Send + 'static {
    /// Calls once.
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// How a run went.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figures {
    /// All calls, those before the measured time included.
    #[serde(skip)]
    pub(super) all_calls: usize,
    /// Calls answered in a second.
    pub(super) per_second: f64,
    /// Milliseconds that half of the calls took at most.
    pub(super) p50_ms: f64,
    /// Milliseconds that 99 of 100 calls took at most.
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

async fn gathered(mut tasks: JoinSet<anyhow::Result<Vec<f64>>>) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::new();
    while let Some(task) = tasks.join_next().await {
        all.extend(task??);
    }
    Ok(all)
}

/// Every caller calls again as soon as it is answered.
///
/// # Errors
/// A call that failed.
pub(super) async fn closed(callers: Vec<impl Caller>, measured: Duration) -> anyhow::Result<Figures> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + measured;
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
                // What ends in the measured time counts: a call that it cuts in two counts at one of its ends.
                let after = Instant::now();
                if (begin..end).contains(&after) {
                    seconds.push((after - before).as_secs_f64());
                }
            }
        });
    }
    let seconds = gathered(tasks).await?;
    let all_calls = all_calls.load(Ordering::Relaxed);
    Ok(Figures::of(seconds, all_calls, measured.as_secs_f64()))
}

/// Calls come by a Poisson process, this many in a second; each waits for a free caller if there is none. Time is
/// counted from the moment at which a call came, and not from when somebody was free to make it.
///
/// # Errors
/// A call that failed.
pub(super) async fn open(
    callers: Vec<impl Caller>,
    per_second: f64,
    measured: Duration,
) -> anyhow::Result<Figures> {
    let count = (per_second * measured.as_secs_f64()).ceil() as usize;
    let at = poisson(count, per_second, 42);
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let receiver = receiver.clone();
        tasks.spawn(async move {
            let mut seconds = Vec::new();
            loop {
                let Some(came) = receiver.lock().await.recv().await else {
                    return Ok(seconds);
                };
                caller.call().await?;
                let took: Duration = Instant::now() - came;
                seconds.push(took.as_secs_f64());
            }
        });
    }
    // Timers of the runtime are good to a millisecond, which is too coarse.
    let clock = tokio::task::spawn_blocking(move || {
        for at in at {
            sleep_until(start, at);
            // Nobody listens any more: a call has failed, and its error is told.
            let _ = sender.send(start + Duration::from_secs_f64(at));
        }
    });
    let seconds = gathered(tasks).await?;
    clock.await?;
    Ok(Figures::of(seconds, count, start.elapsed().as_secs_f64()))
}
