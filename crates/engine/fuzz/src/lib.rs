//! The engine's kernels alone, without candle, so that a fuzzer with AddressSanitizer builds quickly.

#[allow(dead_code)]
#[path = "../../src/kernels/mod.rs"]
pub mod kernels;

use kernels::Isa;

/// Returns every instruction set of this processor.
pub fn isas() -> Vec<Isa> {
    let mut isas = vec![Isa::portable(), Isa::avx2_or_less(), Isa::without_amx(), Isa::detect()];
    isas.dedup();
    isas
}

/// Returns `count` values: those of `given`, repeated, a little smaller each time.
pub fn numbers(given: &[f32], count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| match given.len() {
            0 => (index % 7) as f32 - 3.0,
            length => given[index % length] / (1 + index / length) as f32,
        })
        .collect()
}
