//! Products with 256-bit registers.
//!
//! Tiles are 16 columns wide: 12 registers of sums for f32 and bf16. 8-bit integers are widened to 16 bits and multiplied
//! in pairs: `vpmaddubsw`, which takes them as they are, would cut sums off at 16 bits.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::PANEL;
use super::portable::put;
use super::product::{Rows, Scales, Target, tiles};

/// Rows of a tile of f32 and bf16.
const TILE: usize = 6;
/// Rows of a tile of 8-bit integers.
const INT8_TILE: usize = 3;
/// Columns of a tile.
const COLUMNS: usize = 16;

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
/// The processor has AVX2 and FMA. Lengths are as `product.rs` checks them.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn f32_panel(rows: Rows<'_, f32>, panel: &[f32], target: &mut Target<'_>) {
    for (first, count) in tiles(rows.count, TILE) {
        // SAFETY: the rows of the tile are rows of `rows`.
        unsafe { by_rows!(count, f32_tile, (rows, panel, target, first)) };
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn f32_tile<const R: usize>(
    rows: Rows<'_, f32>,
    panel: &[f32],
    target: &mut Target<'_>,
    first: usize,
) {
    let mut results = [[0f32; PANEL]; R];
    // SAFETY: `first + R` rows are there, of `inputs` numbers each; the panel has 64 for each input.
    unsafe {
        let values = rows.values.as_ptr().add(first * rows.stride);
        for column in (0..PANEL).step_by(COLUMNS) {
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            for step in 0..rows.inputs {
                let place = panel.as_ptr().add(step * PANEL + column);
                let weights = [_mm256_loadu_ps(place), _mm256_loadu_ps(place.add(8))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = _mm256_set1_ps(*values.add(row * rows.stride + step));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm256_fmadd_ps(value, weights, *sum);
                    }
                }
            }
            for (results, sums) in results.iter_mut().zip(sums) {
                _mm256_storeu_ps(results.as_mut_ptr().add(column), sums[0]);
                _mm256_storeu_ps(results.as_mut_ptr().add(column + 8), sums[1]);
            }
        }
    }
    for (row, results) in results.iter().enumerate() {
        put(target, first + row, results);
    }
}

/// # Safety
/// The processor has AVX2 and FMA. Lengths are as `product.rs` checks them.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn bf16_panel(rows: Rows<'_, u16>, panel: &[u16], target: &mut Target<'_>) {
    for (first, count) in tiles(rows.count, TILE) {
        // SAFETY: the rows of the tile are rows of `rows`.
        unsafe { by_rows!(count, bf16_tile, (rows, panel, target, first)) };
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn bf16_tile<const R: usize>(
    rows: Rows<'_, u16>,
    panel: &[u16],
    target: &mut Target<'_>,
    first: usize,
) {
    let mut results = [[0f32; PANEL]; R];
    // SAFETY: `first + R` rows are there, of `inputs` numbers each, an even number; the panel has 128 for each two. Two
    // bfloat16 side by side are one 32-bit number, whose halves shifted up are f32.
    unsafe {
        let values = rows.values.as_ptr().add(first * rows.stride);
        let upper = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
        for column in (0..PANEL).step_by(COLUMNS) {
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            for step in 0..rows.inputs / 2 {
                let place = panel.as_ptr().add((step * PANEL + column) * 2);
                let pairs = [
                    _mm256_loadu_si256(place.cast()),
                    _mm256_loadu_si256(place.add(16).cast()),
                ];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let pair = values.add(row * rows.stride + 2 * step);
                    let low = _mm256_set1_ps(f32::from_bits(u32::from(*pair) << 16));
                    let high = _mm256_set1_ps(f32::from_bits(u32::from(*pair.add(1)) << 16));
                    for (sum, pairs) in sums.iter_mut().zip(pairs) {
                        let second = _mm256_castsi256_ps(_mm256_and_si256(pairs, upper));
                        let first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs));
                        *sum = _mm256_fmadd_ps(high, second, *sum);
                        *sum = _mm256_fmadd_ps(low, first, *sum);
                    }
                }
            }
            for (results, sums) in results.iter_mut().zip(sums) {
                _mm256_storeu_ps(results.as_mut_ptr().add(column), sums[0]);
                _mm256_storeu_ps(results.as_mut_ptr().add(column + 8), sums[1]);
            }
        }
    }
    for (row, results) in results.iter().enumerate() {
        put(target, first + row, results);
    }
}

/// # Safety
/// The processor has AVX2. Lengths are as `product.rs` checks them.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn int8_panel(
    rows: Rows<'_, u8>,
    panel: &[i8],
    scales: Scales<'_>,
    target: &mut Target<'_>,
) {
    for (first, count) in tiles(rows.count, INT8_TILE) {
        // SAFETY: the rows of the tile are rows of `rows`.
        unsafe {
            match count {
                1 => int8_tile::<1>(rows, panel, scales, target, first),
                2 => int8_tile::<2>(rows, panel, scales, target, first),
                _ => int8_tile::<INT8_TILE>(rows, panel, scales, target, first),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn int8_tile<const R: usize>(
    rows: Rows<'_, u8>,
    panel: &[i8],
    scales: Scales<'_>,
    target: &mut Target<'_>,
    first: usize,
) {
    let mut totals = [[0i32; PANEL]; R];
    // SAFETY: `first + R` rows are there, of `inputs` numbers each, a multiple of 4; the panel has 256 for each four.
    unsafe {
        let values = rows.values.as_ptr().add(first * rows.stride);
        for column in (0..PANEL).step_by(COLUMNS) {
            // Of 4 columns each; two sums for a column, of the first and of the last two of its four inputs.
            let mut sums = [[_mm256_setzero_si256(); 4]; R];
            for step in 0..rows.inputs / 4 {
                let place = panel.as_ptr().add((step * PANEL + column) * 4);
                let weights: [__m256i; 4] = std::array::from_fn(|index| {
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(place.add(index * 16).cast()))
                });
                for (row, sums) in sums.iter_mut().enumerate() {
                    let group = values.add(row * rows.stride + 4 * step).cast::<i32>();
                    let value = _mm_cvtsi32_si128(group.read_unaligned());
                    let value = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(value));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(value, weights));
                    }
                }
            }
            for (totals, sums) in totals.iter_mut().zip(sums) {
                for (index, sum) in sums.into_iter().enumerate() {
                    let mut pairs = [0i32; 8];
                    _mm256_storeu_si256(pairs.as_mut_ptr().cast(), sum);
                    for (total, pair) in totals[column + index * 4..].iter_mut().zip(pairs.chunks_exact(2)) {
                        *total = pair[0] + pair[1];
                    }
                }
            }
        }
    }
    for (row, totals) in totals.iter().enumerate() {
        let row = first + row;
        let mut values = [0f32; PANEL];
        for (column, value) in values.iter_mut().enumerate() {
            let sum = totals[column] - scales.zeros[row] * scales.sums[column];
            *value = sum as f32 * (scales.rows[row] * scales.columns[column]);
        }
        put(target, row, &values);
    }
}
