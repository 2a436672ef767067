//! Peak arithmetic throughput: products of values that are already in registers.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::isa::Level;
use super::{Isa, Precision};

/// Sum tiles per step.
#[cfg(target_arch = "x86_64")]
const AMX_TILES: usize = 4;

/// Runs `steps` iterations of multiply-add instructions only, as the kernels for `isa` use them. Returns the number of
/// operations (multiplications and additions), or `None` if the kernels have no instructions of their own.
pub fn operations_at_peak(isa: Isa, precision: Precision, steps: usize) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let (registers, per_step) = match precision {
            Precision::F32 if isa.level == Level::Avx512 => {
                // SAFETY: the processor has AVX-512F.
                unsafe { x86::f32(steps) };
                (x86::REGISTERS, 32)
            }
            Precision::Bf16 if isa.amx && steps > 0 => {
                // SAFETY: AMX is usable, and `steps` is at least 1.
                unsafe { amx::bf16_peak(steps) };
                (AMX_TILES, 16 * 16 * 64)
            }
            Precision::Int8 if isa.amx && steps > 0 => {
                // SAFETY: as above.
                unsafe { amx::int8_peak(steps) };
                (AMX_TILES, 16 * 16 * 128)
            }
            Precision::Bf16 if isa.bf16 => {
                // SAFETY: the processor has AVX512-BF16.
                unsafe { x86::bf16(steps) };
                (x86::REGISTERS, 64)
            }
            Precision::Int8 if isa.vnni => {
                // SAFETY: the processor has AVX512-VNNI.
                unsafe { x86::int8(steps) };
                (x86::REGISTERS, 128)
            }
            // Without its own instructions bfloat16 is multiplied as f32.
            Precision::F32 | Precision::Bf16 if isa.level >= Level::Avx2 => {
                // SAFETY: the processor has AVX2 and FMA.
                unsafe { x86::f32_avx2(steps) };
                (x86::AVX2_REGISTERS, 16)
            }
            Precision::Int8 if isa.level >= Level::Avx2 => {
                // SAFETY: the processor has AVX2.
                unsafe { x86::int8_avx2(steps) };
                (x86::AVX2_REGISTERS, 32)
            }
            _ => return None,
        };
        Some((steps * registers * per_step) as f64)
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

    /// Independent sums, enough to hide the instructions' latency.
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

    /// As [`REGISTERS`], within AVX2's 16.
    pub(super) const AVX2_REGISTERS: usize = 12;

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn f32_avx2(steps: usize) {
        let (a, b) = black_box((_mm256_set1_ps(1.0), _mm256_set1_ps(1e-9)));
        let mut sums = [_mm256_setzero_ps(); AVX2_REGISTERS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }

    /// Multiplies 16-bit pairs and adds.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn int8_avx2(steps: usize) {
        let a = black_box(_mm256_set1_epi16(1));
        let mut sums = [_mm256_setzero_si256(); AVX2_REGISTERS];
        for _ in 0..steps {
            for sum in &mut sums {
                // Uses the sum itself: the compiler would hoist a constant product out of the loop.
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(a, *sum));
            }
        }
        black_box(sums);
    }
}
