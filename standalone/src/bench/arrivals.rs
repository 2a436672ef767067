//! Requests that come when they come: continuous batching beside batches that are formed and run to their end.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use precis_engine::{Engine, GenerateRequest};
use serde::Serialize;

use super::clock::quantile;

/// How a run went.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Outcome {
    /// Summaries per second, from the first arrival to the last answer.
    pub(super) throughput: f64,
    /// Seconds that half of the requests waited at most.
    pub(super) p50: f64,
    /// Seconds that 95 of 100 waited at most.
    pub(super) p95: f64,
}

/// Seconds from the start at which requests arrive, by a Poisson process.
pub(super) fn poisson(count: usize, per_second: f64, seed: u64) -> Vec<f64> {
    let mut state = seed | 1;
    let mut now = 0.0;
    let mut arrival = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        now -= uniform.ln() / per_second;
        now
    };
    (0..count).map(|_| arrival()).collect()
}

fn outcome(mut latencies: Vec<f64>, wall: f64) -> Outcome {
    Outcome {
        throughput: latencies.len() as f64 / wall,
        p50: quantile(&mut latencies, 0.5),
        p95: quantile(&mut latencies, 0.95),
    }
}

#[allow(clippy::disallowed_methods)] // no executor here: these threads stand for clients
pub(super) fn sleep_until(start: Instant, seconds: f64) {
    let at = start + Duration::from_secs_f64(seconds);
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// Every request goes to the engine as it comes.
///
/// # Errors
/// A request without a result.
pub(super) fn continuous(
    engine: &Engine,
    requests: &[GenerateRequest],
    at: &[f64],
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let latencies: anyhow::Result<Vec<f64>> = std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        for (request, at) in requests.iter().zip(at) {
            sleep_until(start, *at);
            let generation = engine.submit(request)?;
            waiting.push(scope.spawn(move || {
                generation.wait()?;
                Ok(start.elapsed().as_secs_f64() - at)
            }));
        }
        let joined = waiting.into_iter().map(|thread| match thread.join() {
            Ok(latency) => latency,
            Err(_) => anyhow::bail!("a waiting thread panicked"),
        });
        joined.collect()
    });
    Ok(outcome(latencies?, start.elapsed().as_secs_f64()))
}

/// As many batches at a time as the engine has threads, of what is there when one begins, up to `batch`; a batch ends
/// when its last request does.
///
/// # Errors
/// A request without a result.
pub(super) fn in_batches(
    engine: &Engine,
    requests: &[GenerateRequest],
    at: &[f64],
    batch: usize,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let receiver = std::sync::Mutex::new(receiver);
    let latencies: anyhow::Result<Vec<f64>> = std::thread::scope(|scope| {
        let work = || {
            let mut latencies = Vec::new();
            loop {
                let mut taken: Vec<(&GenerateRequest, f64)> = Vec::new();
                {
                    let Ok(receiver) = receiver.lock() else { break };
                    taken.extend(receiver.recv().ok());
                    while taken.len() < batch
                        && let Ok(next) = receiver.try_recv()
                    {
                        taken.push(next);
                    }
                }
                if taken.is_empty() {
                    break;
                }
                let together: Vec<GenerateRequest> =
                    taken.iter().map(|(request, _)| (*request).clone()).collect();
                for result in engine.generate_batch(&together, &mut ()) {
                    result?;
                }
                let now = start.elapsed().as_secs_f64();
                latencies.extend(taken.iter().map(|(_, at)| now - at));
            }
            anyhow::Ok(latencies)
        };
        let workers: Vec<_> = (0..engine.info().threads).map(|_| scope.spawn(work)).collect();
        for (request, at) in requests.iter().zip(at) {
            sleep_until(start, *at);
            sender
                .send((request, *at))
                .map_err(|_| anyhow::anyhow!("nobody takes requests"))?;
        }
        drop(sender);
        let mut all = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(latencies) => all.extend(latencies?),
                Err(_) => anyhow::bail!("a batch panicked"),
            }
        }
        Ok(all)
    });
    Ok(outcome(latencies?, start.elapsed().as_secs_f64()))
}
