//! Products with 512-bit registers: FMA for f32, `vdpbf16ps` for bf16, `vpdpbusd` for 8-bit integers.
//!
//! A tile is up to 6 rows by the 64 columns of a panel: 24 registers of sums, 4 of weights, and one broadcast value.
//! Each tile prefetches a part of the next panel.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::PANEL;
use super::product::{Epilogue, Rows, Scales, Target, tiles};

/// Rows of a tile.
const TILE: usize = 6;
/// Registers per panel row.
const WIDE: usize = 4;
/// Bytes of weights per inner step.
const STEP: usize = 256;

/// Prefetches part `tile` of the data `panel` bytes after `place`, one line per step. Four tiles of a panel prefetch
/// the whole next one.
#[inline(always)]
unsafe fn prefetch(place: *const u8, tile: usize, steps: usize, step: usize) {
    if tile < STEP / 64 {
        let line = place.wrapping_add(steps * STEP + (tile * steps + step) * 64);
        // SAFETY: a prefetch may use any address and reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
    }
}

/// Stores a row of sums.
///
/// # Safety
/// The processor has AVX-512F, and the target has this row.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn put(target: &mut Target<'_>, row: usize, sums: [__m512; WIDE]) {
    // SAFETY: `Target::check` ensures `columns` elements of this row; the masks exclude the others.
    unsafe {
        let out = target.out.as_mut_ptr().add(row * target.stride);
        for (index, sum) in sums.into_iter().enumerate() {
            let first = index * 16;
            let count = target.columns.saturating_sub(first).min(16);
            let mask = ((1u32 << count) - 1) as __mmask16;
            let out = out.wrapping_add(first);
            let value = match target.epilogue {
                Epilogue::Store => sum,
                Epilogue::Add => _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), sum),
                Epilogue::Relu => _mm512_max_ps(sum, _mm512_setzero_ps()),
            };
            _mm512_mask_storeu_ps(out, mask, value);
        }
    }
}

/// Converts a row of 8-bit product sums to f32 and stores it.
///
/// # Safety
/// As for [`put`]; the row and 64 columns have scales.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn put_scaled(
    target: &mut Target<'_>,
    scales: Scales<'_>,
    row: usize,
    sums: [__m512i; WIDE],
) {
    let zero = _mm512_set1_epi32(scales.zeros[row]);
    let scale = _mm512_set1_ps(scales.rows[row]);
    let mut values = [_mm512_setzero_ps(); WIDE];
    // SAFETY: 64 columns have scales and sums; the caller ensures the rest.
    unsafe {
        for (index, sum) in sums.into_iter().enumerate() {
            let column_sums = _mm512_loadu_si512(scales.sums.as_ptr().add(index * 16).cast());
            let columns = _mm512_loadu_ps(scales.columns.as_ptr().add(index * 16));
            let sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, column_sums));
            values[index] = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, columns));
        }
        put(target, row, values);
    }
}

/// Calls a tile function with its number of rows as a constant.
macro_rules! by_rows {
    ($count:expr, $tile:ident, ($($arg:expr),*)) => {
        match $count {
            1 => $tile::<1>($($arg),*),
            2 => $tile::<2>($($arg),*),
            3 => $tile::<3>($($arg),*),
            4 => $tile::<4>($($arg),*),
            5 => $tile::<5>($($arg),*),
            _ => $tile::<TILE>($($arg),*),
        }
    };
}

/// # Safety
/// The processor has AVX-512F. `product.rs` checked the lengths.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn f32_panel(rows: Rows<'_, f32>, panel: &[f32], target: &mut Target<'_>) {
    for (tile, (first, count)) in tiles(rows.count, TILE).enumerate() {
        // SAFETY: the rows of the tile are rows of `rows`.
        unsafe { by_rows!(count, f32_tile, (rows, panel, target, first, tile)) };
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn f32_tile<const R: usize>(
    rows: Rows<'_, f32>,
    panel: &[f32],
    target: &mut Target<'_>,
    first: usize,
    tile: usize,
) {
    // SAFETY: there are `first + R` rows of `inputs` elements, and 64 weights per input in the panel.
    unsafe {
        let values = rows.values.as_ptr().add(first * rows.stride);
        let mut sums = [[_mm512_setzero_ps(); WIDE]; R];
        for step in 0..rows.inputs {
            let place = panel.as_ptr().add(step * PANEL);
            prefetch(panel.as_ptr().cast(), tile, rows.inputs, step);
            let weights: [__m512; WIDE] = std::array::from_fn(|index| _mm512_loadu_ps(place.add(index * 16)));
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(*values.add(row * rows.stride + step));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_fmadd_ps(value, weights, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            put(target, first + row, sums);
        }
    }
}

/// # Safety
/// The processor has AVX-512F and AVX512-BF16. `product.rs` checked the lengths.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn bf16_panel(rows: Rows<'_, u16>, panel: &[u16], target: &mut Target<'_>) {
    for (tile, (first, count)) in tiles(rows.count, TILE).enumerate() {
        // SAFETY: the rows of the tile are rows of `rows`.
        unsafe { by_rows!(count, bf16_tile, (rows, panel, target, first, tile)) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_tile<const R: usize>(
    rows: Rows<'_, u16>,
    panel: &[u16],
    target: &mut Target<'_>,
    first: usize,
    tile: usize,
) {
    // SAFETY: there are `first + R` rows of `inputs` elements, an even number, and 128 weights per input pair in the
    // panel. Any 512 bits are 32 bfloat16.
    unsafe {
        let values = rows.values.as_ptr().add(first * rows.stride);
        let steps = rows.inputs / 2;
        let mut sums = [[_mm512_setzero_ps(); WIDE]; R];
        for step in 0..steps {
            let place = panel.as_ptr().add(step * 2 * PANEL);
            prefetch(panel.as_ptr().cast(), tile, steps, step);
            let weights: [__m512i; WIDE] =
                std::array::from_fn(|index| _mm512_loadu_si512(place.add(index * 32).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let pair = values.add(row * rows.stride + 2 * step).cast::<i32>();
                let value = _mm512_set1_epi32(pair.read_unaligned());
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    let value = std::mem::transmute::<__m512i, __m512bh>(value);
                    let weights = std::mem::transmute::<__m512i, __m512bh>(weights);
                    *sum = _mm512_dpbf16_ps(*sum, value, weights);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            put(target, first + row, sums);
        }
    }
}

/// # Safety
/// The processor has AVX-512F and AVX512-VNNI. `product.rs` checked the lengths.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn int8_panel(
    rows: Rows<'_, u8>,
    panel: &[i8],
    scales: Scales<'_>,
    target: &mut Target<'_>,
) {
    for (tile, (first, count)) in tiles(rows.count, TILE).enumerate() {
        // SAFETY: the rows of the tile are rows of `rows`.
        unsafe { by_rows!(count, int8_tile, (rows, panel, scales, target, first, tile)) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn int8_tile<const R: usize>(
    rows: Rows<'_, u8>,
    panel: &[i8],
    scales: Scales<'_>,
    target: &mut Target<'_>,
    first: usize,
    tile: usize,
) {
    // SAFETY: there are `first + R` rows with scales of `inputs` elements, a multiple of 4; the panel has 256 weights
    // per four inputs, and 64 scales and sums.
    unsafe {
        let values = rows.values.as_ptr().add(first * rows.stride);
        let steps = rows.inputs / 4;
        let mut sums = [[_mm512_setzero_si512(); WIDE]; R];
        for step in 0..steps {
            let place = panel.as_ptr().add(step * 4 * PANEL);
            prefetch(panel.as_ptr().cast(), tile, steps, step);
            let weights: [__m512i; WIDE] =
                std::array::from_fn(|index| _mm512_loadu_si512(place.add(index * 64).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let group = values.add(row * rows.stride + 4 * step).cast::<i32>();
                let value = _mm512_set1_epi32(group.read_unaligned());
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, value, weights);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            put_scaled(target, scales, first + row, sums);
        }
    }
}
