//! The engine's kernels by themselves, without candle, so that a fuzzer with AddressSanitizer is built in a moment.

#[allow(dead_code)]
#[path = "../../src/kernels/mod.rs"]
pub mod kernels;

use kernels::Isa;

/// Every instruction set that this processor has.
pub fn isas() -> Vec<Isa> {
    let mut isas = vec![Isa::portable(), Isa::avx2_or_less(), Isa::without_amx(), Isa::detect()];
    isas.dedup();
    isas
}

/// `count` numbers: those of `given` first, again and again, each time a little smaller.
pub fn numbers(given: &[f32], count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| match given.len() {
            0 => (index % 7) as f32 - 3.0,
            length => given[index % length] / (1 + index / length) as f32,
        })
        .collect()
}
