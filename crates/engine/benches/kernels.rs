//! Products at t5-small's shapes: throughput as a share of the processor's peak, and compared with candle.
//!
//! `cargo bench -p precis-engine --bench kernels [-- --json]`. Contenders run in turns. Times are CPU times of the
//! whole process, because candle's product uses several threads; figures are medians over rounds.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor};
use precis_engine::kernels::{
    Activations, Epilogue, Isa, PackedWeights, Precision, operations_at_peak, product,
};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 7;
/// Rows, inputs, outputs: beams of 4 and of 16 requests, and an article; for the layers of a block and a part of the
/// output head.
const SHAPES: [(usize, usize, usize); 10] = [
    (1, 512, 2048),
    (8, 512, 2048),
    (32, 512, 512),
    (32, 512, 2048),
    (32, 2048, 512),
    (128, 512, 1536),
    (128, 2048, 512),
    (128, 512, 32128),
    (350, 512, 1536),
    (350, 2048, 512),
];

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Returns the seconds per call, averaged over enough calls.
fn seconds(mut work: impl FnMut()) -> f64 {
    let begin = cpu_time();
    let mut calls = 0;
    while cpu_time() - begin < Duration::from_millis(12) {
        work();
        calls += 1;
    }
    (cpu_time() - begin).as_secs_f64() / f64::from(calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| ((index * 7919) % 2003) as f32 / 1001.0 - 1.0)
        .collect()
}

fn main() {
    // `cargo test` also runs this binary, without `--bench`. Measure nothing then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let isa = Isa::detect();
    let precisions = [Precision::F32, Precision::Bf16, Precision::Int8];
    let peak = |precision| {
        let run = || black_box(operations_at_peak(isa, precision, 1000));
        let rate = |_| {
            let operations = run()?;
            Some(operations / seconds(|| assert!(run().is_some())))
        };
        (0..ROUNDS).map(rate).collect::<Option<Vec<f64>>>().map(median)
    };
    let peaks = precisions.map(peak);
    println!(
        "{}: GFLOP/s at most {:.0?}",
        isa.name(),
        peaks.map(|peak| peak.unwrap_or(f64::NAN) / 1e9)
    );
    println!(
        "{:>18} {:>9} {:>9} {:>9} {:>16}",
        "rows x in x out", "f32", "bf16", "int8", "f32 / candle"
    );
    let mut report = BTreeMap::new();
    for (rows, inputs, outputs) in SHAPES {
        let (left, weights) = (numbers(rows * inputs), numbers(inputs * outputs));
        let packed = precisions.map(|precision| PackedWeights::pack(precision, inputs, &[&weights]));
        let left_tensor =
            Tensor::from_slice(&left, (rows, inputs), &Device::Cpu).expect("it is rows x inputs");
        let right_tensor =
            Tensor::from_slice(&weights, (inputs, outputs), &Device::Cpu).expect("inputs x outputs");
        let mut out = vec![0f32; rows * outputs];
        let mut activations = Activations::default();
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            for ((packed, precision), times) in packed.iter().zip(precisions).zip(&mut times) {
                times.push(seconds(|| {
                    activations.fill(isa, precision, &left, inputs);
                    product(isa, &activations, packed, Epilogue::Store, &mut out);
                }));
            }
            times[3].push(seconds(|| {
                black_box(left_tensor.matmul(&right_tensor)).expect("the shapes fit");
            }));
        }
        let operations = 2.0 * (rows * inputs * outputs) as f64;
        let times = times.map(median);
        let shares: Vec<f64> = peaks
            .iter()
            .zip(times)
            .map(|(peak, time)| operations / time / peak.unwrap_or(f64::NAN))
            .collect();
        println!(
            "{:>18} {:>8.0}% {:>8.0}% {:>8.0}% {:>15.2}x",
            format!("{rows}x{inputs}x{outputs}"),
            100.0 * shares[0],
            100.0 * shares[1],
            100.0 * shares[2],
            times[3] / times[0],
        );
        report.insert(
            format!("{rows}x{inputs}x{outputs}"),
            (shares, times[3] / times[0]),
        );
    }
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", serde_json::to_string(&report).expect("numbers and names"));
    }
}
