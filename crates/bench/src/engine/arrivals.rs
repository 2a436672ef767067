//! Continuous batching compared with static batches, for requests that arrive at random times.
//!
//! Static batches come in two kinds. Most servers pad: every sequence is computed until the longest of its batch ends.
//! CTranslate2 lets finished sequences leave, but no request takes their slot.

use std::sync::mpsc;

use precis_engine::{Drafting, Engine, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice};
use precis_runtime::clock::Instant;
use serde::Serialize;
use serde_json::json;

use super::report::Report;
use super::setup::{encoded, uncached_options};
use crate::schedule::{poisson_arrivals, sleep_until};
use crate::stats::{median, quantile};
use crate::stopwatch::time;

/// Requests per run.
const REQUESTS: usize = 96;
/// Maximum requests per static batch.
const BATCH: usize = 8;

/// Measures Poisson arrivals at 70 % of the engine's capacity, with texts and summaries of mixed lengths and four beams.
///
/// # Errors
/// If the model doesn't load, or a request fails.
pub(super) fn measure(
    source: &ModelSource,
    max_rows: usize,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut options = uncached_options(PrecisionChoice::Int8, 1, Drafting::Off)?;
    options.max_rows = max_rows;
    let engine = Engine::load(source, &options)?;
    let requests = requests(engine.info().vocabulary as u32);
    let (results, elapsed) = time(|| engine.generate_batch(&requests, &mut ()));
    for result in results {
        result?;
    }
    let rate = 0.7 * requests.len() as f64 / elapsed.wall;
    let (mut continuous, mut padded, mut shrinking) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        let at = poisson_arrivals(requests.len(), rate, 1 + round as u64);
        continuous.push(run_continuously(&engine, &requests, &at)?);
        padded.push(run_in_batches(&engine, &requests, &at, pad_to_longest)?);
        shrinking.push(run_in_batches(&engine, &requests, &at, |_| {})?);
    }
    let median_of =
        |outcomes: &[LoadFigures], of: fn(&LoadFigures) -> f64| median(outcomes.iter().map(of).collect());
    for (name, batches) in [("batches", &padded), ("batches_that_shrink", &shrinking)] {
        for (what, of) in [
            (
                "throughput",
                (|figures| figures.throughput) as fn(&LoadFigures) -> f64,
            ),
            ("p95", |figures| figures.p95),
        ] {
            report.ratios.insert(
                format!("continuous_vs_{name}_{what}"),
                median_of(&continuous, of) / median_of(batches, of),
            );
        }
    }
    report.details.insert(
        "arrivals".into(),
        json!({
            "per_second": rate, "continuous": continuous, "batches": padded, "batches_that_shrink": shrinking,
        }),
    );
    Ok(())
}

/// Returns requests with pseudorandom token ids and a fixed mix of text and summary lengths.
fn requests(vocabulary: u32) -> Vec<GenerateRequest> {
    let request = |index: u32| {
        let length = [40, 480, 120, 300, 200, 90][index as usize % 6];
        let word =
            |position: u32| 3 + (position.wrapping_mul(2_654_435_761) ^ (index * 977)) % (vocabulary - 200);
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

/// Simulates padding: gives every request the length of the batch's longest.
fn pad_to_longest(batch: &mut [GenerateRequest]) {
    let longest = batch.iter().map(|request| request.params.max_new_tokens).max();
    for request in batch {
        let params = &mut request.params;
        (params.min_new_tokens, params.max_new_tokens) = (longest.unwrap_or(1), longest.unwrap_or(1));
    }
}

/// Throughput and latency of a run.
#[derive(Debug, Clone, Copy, Serialize)]
struct LoadFigures {
    /// Summaries per second, from the first arrival to the last response.
    throughput: f64,
    /// Median latency in seconds.
    p50: f64,
    /// 95th percentile of the latency in seconds.
    p95: f64,
}

impl LoadFigures {
    fn of(mut latencies: Vec<f64>, wall: f64) -> Self {
        Self {
            throughput: latencies.len() as f64 / wall,
            p50: quantile(&mut latencies, 0.5),
            p95: quantile(&mut latencies, 0.95),
        }
    }
}

/// Submits every request on arrival.
///
/// # Errors
/// If a request fails.
fn run_continuously(
    engine: &Engine,
    requests: &[GenerateRequest],
    at: &[f64],
) -> anyhow::Result<LoadFigures> {
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
    Ok(LoadFigures::of(latencies?, start.elapsed().as_secs_f64()))
}

/// Runs static batches, one at a time per engine thread.
///
/// A batch takes up to [`BATCH`] requests that have arrived, passes them through `form`, and responds when the last one ends.
///
/// # Errors
/// If a request fails.
fn run_in_batches(
    engine: &Engine,
    requests: &[GenerateRequest],
    at: &[f64],
    form: impl Fn(&mut [GenerateRequest]) + Sync,
) -> anyhow::Result<LoadFigures> {
    let start = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let receiver = parking_lot::Mutex::new(receiver);
    let latencies: anyhow::Result<Vec<f64>> = std::thread::scope(|scope| {
        let work = || {
            let mut latencies = Vec::new();
            loop {
                let mut taken: Vec<(&GenerateRequest, f64)> = Vec::new();
                {
                    let receiver = receiver.lock();
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
                let mut batch: Vec<GenerateRequest> =
                    taken.iter().map(|(request, _)| (*request).clone()).collect();
                form(&mut batch);
                for result in engine.generate_batch(&batch, &mut ()) {
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
                .map_err(|_| anyhow::anyhow!("every batch thread has ended"))?;
        }
        drop(sender);
        let mut all = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(latencies) => all.extend(latencies?),
                Err(_) => anyhow::bail!("a batch thread panicked"),
            }
        }
        Ok(all)
    });
    Ok(LoadFigures::of(latencies?, start.elapsed().as_secs_f64()))
}
