//! Products with 256-bit registers.
//!
//! A tile is up to 6 rows by two registers of sums, which takes 12 of 16 registers. bf16 and 8-bit rows are widened
//! block by block to a format that can be broadcast from memory. A block of a panel thus stays in the L1 cache during
//! its use. 8-bit integers are multiplied as 16-bit pairs. `vpmaddubsw` would saturate sums at 16 bits, and needs as
//! many multiplications.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::PANEL;
use super::lanes::from_bf16;
use super::portable::put;
use super::product::{Rows, Scales, Target, tiles};

/// Rows of a tile.
const TILE: usize = 6;
/// Inputs per block of 8-bit integers: 16 KiB of a panel, half of a first-level cache, so that the next block fits
/// beside it.
const INT8_BLOCK: usize = 256;
/// Inputs per block of bf16.
const BF16_BLOCK: usize = 128;
/// Inputs per block of f32.
const F32_BLOCK: usize = 64;
/// Columns per tile of f32 and bf16.
const COLUMNS: usize = 16;
/// Columns per tile of 8-bit integers, with two sums each.
const INT8_COLUMNS: usize = 8;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Returns the address that a product reads after a block of `length` elements at `block`. Within a panel that is the
/// next block. At the panel's end it is the panel's start for another tile, or the next panel after the last tile.
#[inline(always)]
fn after<T>(panel: &[T], block: usize, length: usize, is_last_tile: bool) -> *const u8 {
    let end = block + length;
    let next = if end < panel.len() || is_last_tile { end } else { 0 };
    panel.as_ptr().wrapping_add(next).cast()
}

/// Prefetches one line of the next block per step of a pass over a block of `steps`. A block is read in several passes
/// of a few columns each, which the hardware prefetcher does not predict. Four passes prefetch the whole next block.
#[inline(always)]
unsafe fn prefetch(next: *const u8, steps: usize, pass: usize, step: usize) {
    let line = next.wrapping_add((pass * steps + step) * LINE);
    // SAFETY: a prefetch may use any address and reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

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

/// Loads a tile row's 16 sums.
#[inline]
#[target_feature(enable = "avx2")]
fn load_sums<const R: usize>(results: &[[f32; PANEL]; R], column: usize) -> [[__m256; 2]; R] {
    let load = |row: &[f32; PANEL], first: usize| {
        let eight = &row[first..first + 8];
        // SAFETY: the slice has 8 elements.
        unsafe { _mm256_loadu_ps(eight.as_ptr()) }
    };
    std::array::from_fn(|row| [load(&results[row], column), load(&results[row], column + 8)])
}

/// Stores them.
#[inline]
#[target_feature(enable = "avx2")]
fn store_sums<const R: usize>(results: &mut [[f32; PANEL]; R], column: usize, sums: [[__m256; 2]; R]) {
    for (row, sums) in results.iter_mut().zip(sums) {
        let (low, high) = row[column..column + COLUMNS].split_at_mut(8);
        // SAFETY: each half has 8 elements.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), sums[1]);
        }
    }
}

/// # Safety
/// The processor has AVX2 and FMA. `product.rs` checked the lengths.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn f32_panel(rows: Rows<'_, f32>, panel: &[f32], target: &mut Target<'_>) {
    for (first, count) in tiles(rows.count, TILE) {
        // SAFETY: `tiles` yields only ranges within `rows`.
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
    for block in (0..rows.inputs).step_by(F32_BLOCK) {
        let steps = (rows.inputs - block).min(F32_BLOCK);
        let next = after(panel, block * PANEL, steps * PANEL, first + R == rows.count);
        // SAFETY: there are `first + R` rows of `inputs` elements, and 64 weights per input in the panel.
        unsafe {
            let values = rows.values.as_ptr().add(first * rows.stride + block);
            let weights = panel.as_ptr().add(block * PANEL);
            for (pass, column) in (0..PANEL).step_by(COLUMNS).enumerate() {
                let mut sums = load_sums(&results, column);
                for step in 0..steps {
                    prefetch(next, steps, pass, step);
                    let place = weights.add(step * PANEL + column);
                    let weights = [_mm256_loadu_ps(place), _mm256_loadu_ps(place.add(8))];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let value = _mm256_set1_ps(*values.add(row * rows.stride + step));
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = _mm256_fmadd_ps(value, weights, *sum);
                        }
                    }
                }
                store_sums(&mut results, column, sums);
            }
        }
    }
    for (row, results) in results.iter().enumerate() {
        put(target, first + row, results);
    }
}

/// # Safety
/// The processor has AVX2 and FMA. `product.rs` checked the lengths.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn bf16_panel(rows: Rows<'_, u16>, panel: &[u16], target: &mut Target<'_>) {
    let mut wide = [[0f32; BF16_BLOCK]; TILE];
    for (first, count) in tiles(rows.count, TILE) {
        // SAFETY: `tiles` yields only ranges within `rows`.
        unsafe { by_rows!(count, bf16_tile, (rows, panel, target, first, &mut wide)) };
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn bf16_tile<const R: usize>(
    rows: Rows<'_, u16>,
    panel: &[u16],
    target: &mut Target<'_>,
    first: usize,
    wide: &mut [[f32; BF16_BLOCK]; TILE],
) {
    let mut results = [[0f32; PANEL]; R];
    for block in (0..rows.inputs).step_by(BF16_BLOCK) {
        let inputs = (rows.inputs - block).min(BF16_BLOCK);
        let next = after(panel, block * PANEL, inputs * PANEL, first + R == rows.count);
        for (row, wide) in wide.iter_mut().take(R).enumerate() {
            let values = &rows.values[(first + row) * rows.stride + block..][..inputs];
            wide.iter_mut()
                .zip(values)
                .for_each(|(wide, value)| *wide = from_bf16(*value));
        }
        // SAFETY: `wide` has `inputs` elements per row, an even number, and the panel has 128 weights per input pair.
        // Two adjacent bfloat16 form a 32-bit word, whose halves shifted up are f32.
        unsafe {
            let upper = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
            let weights = panel.as_ptr().add(block * PANEL);
            for (pass, column) in (0..PANEL).step_by(COLUMNS).enumerate() {
                let mut sums = load_sums(&results, column);
                for step in 0..inputs / 2 {
                    prefetch(next, inputs / 2, pass, step);
                    let place = weights.add((step * PANEL + column) * 2);
                    let pairs = [
                        _mm256_loadu_si256(place.cast()),
                        _mm256_loadu_si256(place.add(16).cast()),
                    ];
                    // The second factors first, as `vdpbf16ps` does.
                    let weights = pairs.map(|pairs| _mm256_castsi256_ps(_mm256_and_si256(pairs, upper)));
                    for (wide, sums) in wide.iter().zip(&mut sums) {
                        let value = _mm256_broadcast_ss(&*wide.as_ptr().add(2 * step + 1));
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = _mm256_fmadd_ps(value, weights, *sum);
                        }
                    }
                    let weights = pairs.map(|pairs| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)));
                    for (wide, sums) in wide.iter().zip(&mut sums) {
                        let value = _mm256_broadcast_ss(&*wide.as_ptr().add(2 * step));
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = _mm256_fmadd_ps(value, weights, *sum);
                        }
                    }
                }
                store_sums(&mut results, column, sums);
            }
        }
    }
    for (row, results) in results.iter().enumerate() {
        put(target, first + row, results);
    }
}

/// # Safety
/// The processor has AVX2. `product.rs` checked the lengths.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn int8_panel(
    rows: Rows<'_, u8>,
    panel: &[i8],
    scales: Scales<'_>,
    target: &mut Target<'_>,
) {
    let mut wide = [[0i16; INT8_BLOCK]; TILE];
    for (first, count) in tiles(rows.count, TILE) {
        // SAFETY: `tiles` yields only ranges within `rows`.
        unsafe { by_rows!(count, int8_tile, (rows, panel, scales, target, first, &mut wide)) };
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
    wide: &mut [[i16; INT8_BLOCK]; TILE],
) {
    let mut totals = [[0i32; PANEL]; R];
    for block in (0..rows.inputs).step_by(INT8_BLOCK) {
        let inputs = (rows.inputs - block).min(INT8_BLOCK);
        let next = after(panel, block * PANEL, inputs * PANEL, first + R == rows.count);
        for (row, wide) in wide.iter_mut().take(R).enumerate() {
            let values = &rows.values[(first + row) * rows.stride + block..][..inputs];
            wide.iter_mut()
                .zip(values)
                .for_each(|(wide, value)| *wide = i16::from(*value));
        }
        // SAFETY: `wide` has `inputs` elements per row, a multiple of 4, and the panel has 256 weights per four inputs.
        unsafe {
            let weights = panel.as_ptr().add(block * PANEL);
            for (pass, column) in (0..PANEL).step_by(INT8_COLUMNS).enumerate() {
                // Four columns each, with two sums per column: of the first two and the last two of its four inputs.
                let mut sums = [[_mm256_setzero_si256(); 2]; R];
                for step in 0..inputs / 4 {
                    if pass % 2 == 0 {
                        prefetch(next, inputs / 4, pass / 2, step);
                    }
                    let place = weights.add((step * PANEL + column) * 4);
                    let weights = [
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(place.cast())),
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(place.add(16).cast())),
                    ];
                    for (wide, sums) in wide.iter().zip(&mut sums) {
                        let group = wide.as_ptr().add(4 * step).cast::<i64>();
                        let value = _mm256_set1_epi64x(group.read_unaligned());
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(value, weights));
                        }
                    }
                }
                for (totals, [low, high]) in totals.iter_mut().zip(sums) {
                    // Each half has the two columns of `low`, then those of `high`: restore the order.
                    let pairs = _mm256_hadd_epi32(low, high);
                    let columns = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                    let place = totals.as_mut_ptr().add(column).cast::<__m256i>();
                    let total = _mm256_add_epi32(_mm256_loadu_si256(place), columns);
                    _mm256_storeu_si256(place, total);
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
