//! CPU kernels of the model graphs: matrix products on packed weights, attention, and selection of the highest logits.
//!
//! Every kernel is a portable Rust function. Products also have versions for AMX, AVX-512 and AVX2 (`amx.rs`,
//! `avx512.rs`, `avx2.rs`), the only places with `unsafe` intrinsics. Everything else is compiled once per instruction
//! set from the same source (`versions!`). `Isa::detect` chooses at run time.
//!
//! All kernels share two properties. A row's result does not depend on its neighbours, because sums over the inner
//! dimension have one order whatever the tile. And kernels allocate nothing but growing scratch memory.

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cache;
mod elementwise;
mod isa;
mod keys_values;
mod lanes;
mod peak;
mod portable;
mod product;
mod select;
#[cfg(test)]
mod tests;
mod weights;

pub use activations::Activations;
pub use attention::{AttentionScratch, DistanceBias, attend, attend_prompt};
pub use cache::{SlotCache, attend_slots};
pub use elementwise::{gelu_gate, rms_norm, rotate, silu_gate};
pub use isa::Isa;
pub use keys_values::PackedKeysValues;
pub use peak::operations_at_peak;
pub use product::{Epilogue, product, product_columns};
pub use select::{LogSumExp, Top};
pub use weights::PackedWeights;

/// Number format of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// bfloat16 factors, f32 sums.
    Bf16,
    /// 8-bit integer factors, exact 32-bit sums; attention as in [`Precision::Bf16`].
    Int8,
}

/// Columns of a panel of packed weights.
pub(crate) const PANEL: usize = 64;
