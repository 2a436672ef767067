//! What a processor could do at most: products of numbers that are in its registers already.
#![allow(unsafe_code)]

use super::isa::Level;
use super::{Isa, Precision};

/// Runs a loop of `steps` steps of nothing but multiply-and-add instructions, as the kernels for `isa` use them, and
/// tells how many operations (multiplications and additions) that were. Nothing where the kernels have no instructions of
/// their own.
pub fn operations_at_peak(isa: Isa, precision: Precision, steps: usize) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let per_instruction = match precision {
            Precision::F32 if isa.level == Level::Avx512 => {
                // SAFETY: the processor was found to have AVX-512F.
                unsafe { x86::f32(steps) };
                32
            }
            Precision::Bf16 if isa.bf16 => {
                // SAFETY: the processor was found to have AVX512-BF16.
                unsafe { x86::bf16(steps) };
                64
            }
            Precision::Int8 if isa.vnni => {
                // SAFETY: the processor was found to have AVX512-VNNI.
                unsafe { x86::int8(steps) };
                128
            }
            _ => return None,
        };
        Some((steps * x86::REGISTERS * per_instruction) as f64)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, precision, steps, Level::Portable);
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Sums that are independent of each other: enough to hide the instructions' latency.
    pub(super) const REGISTERS: usize = 24;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f32(steps: usize) {
        let (a, b) = black_box((_mm512_set1_ps(1.0), _mm512_set1_ps(1e-9)));
        let mut sums = [_mm512_setzero_ps(); REGISTERS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn bf16(steps: usize) {
        // SAFETY: any 512 bits are 32 bfloat16.
        let (a, b) = unsafe {
            let one = _mm512_set1_epi16(0x3F80);
            (
                std::mem::transmute::<__m512i, __m512bh>(black_box(one)),
                std::mem::transmute::<__m512i, __m512bh>(black_box(one)),
            )
        };
        let mut sums = [_mm512_setzero_ps(); REGISTERS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn int8(steps: usize) {
        let (a, b) = black_box((_mm512_set1_epi8(1), _mm512_set1_epi8(1)));
        let mut sums = [_mm512_setzero_si512(); REGISTERS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }
}
