//! Throughput on the same texts and the same number of tokens: our precisions, and other inference engines.

use std::collections::BTreeMap;

use precis_engine::PrecisionChoice;
use precis_engine::kernels::{Isa, Precision, operations_at_peak};
use precis_runtime::allocator::RETURN_MEMORY_ENV;
use serde_json::{Value, json};

use super::EngineBench;
use super::peers::{PeerRequest, Peers};
use super::report::Report;
use super::setup::{NEW_TOKENS, fixed_length_requests, load};
use crate::stats::median;
use crate::stopwatch::{Elapsed, time};

/// Times by engine and threads: one entry per round, with the number of texts.
type Times = BTreeMap<(String, usize), Vec<(Elapsed, usize)>>;

/// Measures all engines in turns and adds the figures to `report`.
pub(super) fn measure(bench: &EngineBench, report: &mut Report) -> anyhow::Result<()> {
    let mut ids = bench.inputs()?;
    ids.truncate(bench.texts);
    let times = run_rounds(bench, &ids)?;
    for ((name, threads), rounds) in &times {
        let per_text = |of: fn(&Elapsed) -> f64| {
            let values = rounds.iter().map(|(elapsed, texts)| of(elapsed) / *texts as f64);
            median(values.collect())
        };
        if *threads == 1 {
            let cpu_ms = 1e3 * per_text(|elapsed| elapsed.cpu);
            report.cpu_ms.insert(name.clone(), cpu_ms);
        }
        report.per_second.insert(
            format!("{name} ({threads} threads)"),
            1.0 / per_text(|elapsed| elapsed.wall),
        );
    }
    add_ratios(report);
    add_share_of_peak(bench, &ids, report);
    report.details.insert(
        "comparison".into(),
        json!({
            "texts": ids.len(), "beams": bench.beams, "mean_length": bench.length, "new_tokens": NEW_TOKENS,
            "rounds": bench.rounds,
        }),
    );
    if let Some(memory) = memory_of_fresh_process(bench)? {
        report.details.insert("int8_memory_mb".into(), memory);
    }
    Ok(())
}

/// Runs every engine once per round. The first round warms up and isn't recorded.
fn run_rounds(bench: &EngineBench, ids: &[Vec<u32>]) -> anyhow::Result<Times> {
    let folder = bench.model_dir();
    let requests = fixed_length_requests(ids, bench.beams);
    let mut engines = Vec::new();
    for threads in [1, 2] {
        for precision in bench.precisions.iter().copied() {
            let name = format!("precis-{}", precision_name(precision));
            engines.push((name, threads, load(&folder, precision, threads)?));
        }
    }
    let mut peers = match bench.peers {
        true => Some(Peers::start(&bench.peers_dir, &bench.peers_script)?),
        false => None,
    };
    // transformers is slow, and two texts measure it well enough.
    let two = &ids[..ids.len().min(2)];
    let peer_runs = [
        ("ctranslate2-int8", 1, ids, ids.len()),
        ("ctranslate2-f32", 1, ids, ids.len()),
        ("onnxruntime-int8", 1, &ids[..ids.len().min(8)], 8),
        ("transformers-f32", 1, two, 1),
        // CTranslate2 can use two threads in two ways: one batch per thread, or both threads on every product.
        ("ctranslate2-int8", 2, ids, ids.len().div_ceil(2)),
        ("ctranslate2-int8-intra", 2, ids, ids.len()),
    ];
    let mut times = Times::new();
    let mut record = |name: &str, threads: usize, round: usize, time: (Elapsed, usize)| {
        if round > 0 {
            times.entry((name.to_owned(), threads)).or_default().push(time);
        }
    };
    for round in 0..=bench.rounds {
        for (name, threads, engine) in &engines {
            let (results, elapsed) = time(|| engine.generate_batch(&requests, &mut ()));
            for result in results {
                let tokens = result?.ids.len();
                anyhow::ensure!(
                    tokens == NEW_TOKENS,
                    "{name} generated {tokens} tokens instead of {NEW_TOKENS}"
                );
            }
            record(name, *threads, round, (elapsed, ids.len()));
        }
        for (peer, threads, ids, batch) in peer_runs {
            let Some(peers) = &mut peers else { break };
            let request = PeerRequest {
                peer,
                threads,
                ids,
                beams: bench.beams,
                batch,
                new_tokens: NEW_TOKENS,
            };
            match peers.run(request) {
                Ok(elapsed) => record(peer, threads, round, (elapsed, ids.len())),
                Err(error) if round == 0 => eprintln!("skipped: {error}"),
                Err(_) => {}
            }
        }
    }
    Ok(times)
}

/// Adds the ratios of our engine to the others: above 1 is faster.
fn add_ratios(report: &mut Report) {
    let cpu_ratio = |ours: &str, theirs: &str| Some(report.cpu_ms.get(theirs)? / report.cpu_ms.get(ours)?);
    let per_second = |name: &str, threads: usize| {
        let key = format!("{name} ({threads} threads)");
        report.per_second.get(&key).copied()
    };
    let mut ratios: Vec<(&str, Option<f64>)> = [
        ("int8_vs_ctranslate2_int8", "precis-int8", "ctranslate2-int8"),
        ("bf16_vs_ctranslate2_int8", "precis-bf16", "ctranslate2-int8"),
        ("f32_vs_ctranslate2_f32", "precis-f32", "ctranslate2-f32"),
        ("int8_vs_onnxruntime_int8", "precis-int8", "onnxruntime-int8"),
        (
            "int8_vs_transformers_f32_single",
            "precis-int8",
            "transformers-f32",
        ),
    ]
    .into_iter()
    .map(|(name, ours, theirs)| (name, cpu_ratio(ours, theirs)))
    .collect();
    let (one, two) = (per_second("precis-int8", 1), per_second("precis-int8", 2));
    ratios.push((
        "int8_two_threads_vs_one",
        two.zip(one).map(|(two, one)| two / one),
    ));
    // Compare with the faster of CTranslate2's two settings.
    let theirs = ["ctranslate2-int8", "ctranslate2-int8-intra"].map(|name| per_second(name, 2));
    let theirs = theirs.into_iter().flatten().max_by(f64::total_cmp);
    ratios.push((
        "int8_vs_ctranslate2_int8_two_threads",
        two.zip(theirs).map(|(ours, theirs)| ours / theirs),
    ));
    let found = ratios
        .into_iter()
        .filter_map(|(name, ratio)| Some((name.to_owned(), ratio?)));
    let found: Vec<_> = found.collect();
    report.ratios.extend(found);
}

/// Adds the share of the core's peak that int8 reaches, on processors with a known peak.
fn add_share_of_peak(bench: &EngineBench, ids: &[Vec<u32>], report: &mut Report) {
    let Some(peak) = peak_operations_per_second(Precision::Int8) else {
        return;
    };
    let Some(ms) = report.cpu_ms.get("precis-int8") else {
        return;
    };
    let operations = ids
        .iter()
        .map(|ids| operations_per_summary(ids.len(), bench.beams));
    let mean = operations.sum::<f64>() / ids.len() as f64;
    report
        .ratios
        .insert("int8_peak_share".into(), mean / (ms / 1e3) / peak);
    report.details.insert("int8_peak_gops".into(), json!(peak / 1e9));
}

/// Runs `precis bench engine --memory` in a process that has loaded no other engine.
fn memory_of_fresh_process(bench: &EngineBench) -> anyhow::Result<Option<Value>> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["bench", "engine", "--memory"])
        .args(["--length", &bench.length.to_string()])
        .args(["--beams", &bench.beams.to_string(), "--peers-dir"])
        .arg(&bench.peers_dir)
        .env(RETURN_MEMORY_ENV.0, RETURN_MEMORY_ENV.1)
        .output()?;
    Ok(serde_json::from_slice(&output.stdout).ok())
}

fn precision_name(precision: PrecisionChoice) -> &'static str {
    match precision {
        PrecisionChoice::Auto => "auto",
        PrecisionChoice::F32 => "f32",
        PrecisionChoice::Bf16 => "bf16",
        PrecisionChoice::F16 => "f16",
        PrecisionChoice::Int8 => "int8",
    }
}

/// Returns the peak rate of one core in operations per second.
fn peak_operations_per_second(precision: Precision) -> Option<f64> {
    let rates = (0..7).map(|_| {
        let (operations, elapsed) = time(|| operations_at_peak(Isa::detect(), precision, 4_000_000));
        operations.map(|operations| operations / elapsed.cpu)
    });
    rates.collect::<Option<Vec<f64>>>().map(median)
}

/// Counts the multiplications and additions in the matrix products of one summary by t5-small.
fn operations_per_summary(tokens: usize, beams: usize) -> f64 {
    let (layers, model, inner, wide, vocabulary) = (6.0, 512.0, 512.0, 2048.0, 32128.0);
    let (tokens, rows) = (tokens as f64, (beams * NEW_TOKENS) as f64);
    let attention = 4.0 * model * inner;
    let feed_forward = 2.0 * model * wide;
    let encoder = tokens * (attention + feed_forward + 2.0 * tokens * inner);
    let cross = tokens * 2.0 * model * inner;
    let steps = NEW_TOKENS as f64 / 2.0;
    let decoder = rows * (attention + 2.0 * model * inner + feed_forward + 2.0 * inner * (tokens + steps));
    2.0 * (layers * (encoder + cross + decoder) + rows * model * vocabulary)
}
