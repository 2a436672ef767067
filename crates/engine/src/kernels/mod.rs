//! What the T5 graph computes with on a CPU: matrix products on prepacked weights, attention, and a look at logits.
//!
//! Every kernel is one portable Rust function. Products have besides it versions in the instructions of AMX, AVX-512 and AVX2
//! (`amx.rs`, `avx512.rs`, `avx2.rs`, the only places with `unsafe` intrinsics); everything else is compiled once for each
//! instruction set from the same source (`versions!`). Which one runs is found out at run time (`Isa::detect`).
//!
//! Two properties hold for all of them. A row's result doesn't depend on the rows beside it: sums over the inner
//! dimension are taken in one order, whatever the tile. And nothing allocates but scratch memory that grows.

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
pub use attention::{AttentionScratch, DistanceBias, attend};
pub use cache::{SlotCache, attend_slots};
pub use elementwise::{gelu_gate, rms_norm};
pub use isa::Isa;
pub use keys_values::PackedKeysValues;
pub use peak::operations_at_peak;
pub use product::{Epilogue, product, product_columns};
pub use select::{LogSumExp, Top};
pub use weights::PackedWeights;

/// The numbers that products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// bfloat16 factors, f32 sums.
    Bf16,
    /// 8-bit integer factors, exact 32-bit sums; attention as [`Precision::Bf16`].
    Int8,
}

/// Columns of a panel of packed weights.
pub(crate) const PANEL: usize = 64;
