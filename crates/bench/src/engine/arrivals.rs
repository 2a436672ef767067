//! Requests that come when they come: continuous batching beside batches that are formed and run to their end.
//!
//! Batches are run in two ways: as most servers run them, every sequence until the longest of its batch is done (what ended
//! is computed on, as padding); and as CTranslate2 runs them, what ended leaves, and nothing takes its place.

use std::sync::mpsc;
use std::time::Duration;
use tokio::time::Instant;

use precis_engine::{Drafting, Engine, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice};
use serde::Serialize;
use serde_json::json;

use super::clock::{median, quantile, time};
use super::engine::{Report, encoded, options};

/// Requests of a run.
const REQUESTS: usize = 96;
/// Requests of a batch.
const BATCH: usize = 8;

/// Poisson arrivals at 70 % of what the engine can do when all is there from the beginning; texts and summaries of all
/// lengths, four beams.
///
/// # Errors
/// A model that doesn't load; a request without a result.
pub(super) fn measure(
    source: &ModelSource,
    max_rows: usize,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut options = options(PrecisionChoice::Int8, 1, Drafting::Off)?;
    options.max_rows = max_rows;
    let engine = Engine::load(source, &options)?;
    let requests = requests(engine.info().vocabulary as u32);
    let (results, spent) = time(|| engine.generate_batch(&requests, &mut ()));
    for result in results {
        result?;
    }
    let rate = 0.7 * requests.len() as f64 / spent.wall;
    let (mut flowing, mut padded, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        let at = poisson(requests.len(), rate, 1 + round as u64);
        flowing.push(continuous(&engine, &requests, &at)?);
        padded.push(in_batches(&engine, &requests, &at, as_long_as_the_longest)?);
        leaving.push(in_batches(&engine, &requests, &at, |_| {})?);
    }
    let middle = |outcomes: &[Outcome], of: fn(&Outcome) -> f64| median(outcomes.iter().map(of).collect());
    for (name, batches) in [("batches", &padded), ("batches_that_shrink", &leaving)] {
        for (what, of) in [
            (
                "throughput",
                (|outcome| outcome.throughput) as fn(&Outcome) -> f64,
            ),
            ("p95", |outcome| outcome.p95),
        ] {
            report.ratios.insert(
                format!("continuous_vs_{name}_{what}"),
                middle(&flowing, of) / middle(batches, of),
            );
        }
    }
    report.details.insert(
        "arrivals".into(),
        json!({"per_second": rate, "continuous": flowing, "batches": padded, "batches_that_shrink": leaving}),
    );
    Ok(())
}

fn requests(vocabulary: u32) -> Vec<GenerateRequest> {
    let request = |index: u32| {
        let length = [40, 480, 120, 300, 200, 90][index as usize % 6];
        let word = |place: u32| 3 + (place.wrapping_mul(2_654_435_761) ^ (index * 977)) % (vocabulary - 200);
        let ids: Vec<u32> = (0..length - 1).map(word).chain([1]).collect();
        let tokens = [8, 64, 20, 40, 12, 30][(index as usize / 6 + index as usize) % 6];
        let params = GenerationParams {
            num_beams: 4,
            min_new_tokens: tokens,
            max_new_tokens: tokens,
            ..GenerationParams::default()
        };
        GenerateRequest::new(encoded(&ids), params)
    };
    (0..REQUESTS as u32).map(request).collect()
}

/// Padding: every sequence of a batch is computed as long as the longest one.
fn as_long_as_the_longest(batch: &mut [GenerateRequest]) {
    let longest = batch.iter().map(|request| request.params.max_new_tokens).max();
    for request in batch {
        let params = &mut request.params;
        (params.min_new_tokens, params.max_new_tokens) = (longest.unwrap_or(1), longest.unwrap_or(1));
    }
}

/// How a run went.
#[derive(Debug, Clone, Copy, Serialize)]
struct Outcome {
    /// Summaries per second, from the first arrival to the last answer.
    throughput: f64,
    /// Seconds that half of the requests waited at most.
    p50: f64,
    /// Seconds that 95 of 100 waited at most.
    p95: f64,
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
fn continuous(engine: &Engine, requests: &[GenerateRequest], at: &[f64]) -> anyhow::Result<Outcome> {
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

/// As many batches at a time as the engine has threads, of what is there when one begins, up to [`BATCH`], and as `formed`
/// makes of them; a batch ends when its last request does, and its answers go out then.
///
/// # Errors
/// A request without a result.
fn in_batches(
    engine: &Engine,
    requests: &[GenerateRequest],
    at: &[f64],
    formed: impl Fn(&mut [GenerateRequest]) + Sync,
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
                    while taken.len() < BATCH
                        && let Ok(next) = receiver.try_recv()
                    {
                        taken.push(next);
                    }
                }
                if taken.is_empty() {
                    break;
                }
                let mut together: Vec<GenerateRequest> =
                    taken.iter().map(|(request, _)| (*request).clone()).collect();
                formed(&mut together);
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
