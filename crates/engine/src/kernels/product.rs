//! Matrix products of rows and packed weights.

use std::ops::Range;

use super::isa::Level;
use super::{Activations, Isa, PANEL, PackedWeights, Precision, portable};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512};

/// How a product is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// Overwrites the target.
    Store,
    /// Adds to the target.
    Add,
    /// Overwrites, with negative values set to 0.
    Relu,
}

/// Rows of f32 or bf16, the left operand of a panel product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a, T> {
    /// `[count, stride]`; the last row may end at `inputs`.
    pub(super) values: &'a [T],
    pub(super) count: usize,
    pub(super) stride: usize,
    /// Elements of a row that count, a multiple of the group size.
    pub(super) inputs: usize,
}

impl<T> Rows<'_, T> {
    fn check(&self, panel: usize, out: &Target<'_>) {
        assert!(self.count > 0, "no rows");
        let last = self.count.saturating_sub(1) * self.stride + self.inputs;
        assert!(
            self.values.len() >= last,
            "{} elements are too few for {} rows",
            self.values.len(),
            self.count
        );
        assert!(
            panel >= self.inputs * PANEL,
            "a panel of {panel} elements is too small for {} inputs",
            self.inputs
        );
        out.check(self.count);
    }
}

/// Target of up to 64 result columns.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// Elements from the first column of the first row on.
    pub(super) out: &'a mut [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// Number of columns: 1 to 64.
    pub(super) columns: usize,
    pub(super) epilogue: Epilogue,
}

impl Target<'_> {
    fn check(&self, count: usize) {
        assert!((1..=PANEL).contains(&self.columns), "{} columns", self.columns);
        let last = count.saturating_sub(1) * self.stride + self.columns;
        assert!(
            self.out.len() >= last,
            "output of {} elements is too small for {count} rows",
            self.out.len()
        );
    }
}

/// Scales that convert 8-bit sums to f32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scales<'a> {
    /// Per row: scale, and zero point.
    pub(super) rows: &'a [f32],
    pub(super) zeros: &'a [i32],
    /// Per column of the panel: scale, and sum of the column's weights.
    pub(super) columns: &'a [f32],
    pub(super) sums: &'a [i32],
}

/// Splits `count` rows into tiles of at most `most` rows of similar height.
pub(super) fn tiles(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = count.div_ceil(most).max(1);
    let (size, larger) = (count / tiles, count % tiles);
    (0..tiles).map(move |tile| (tile * size + tile.min(larger), size + usize::from(tile < larger)))
}

/// Computes `out` = rows · weights, `[count, outputs]`.
///
/// # Panics
/// If the lengths of rows, weights and `out` do not match.
pub fn product(isa: Isa, rows: &Activations, weights: &PackedWeights, epilogue: Epilogue, out: &mut [f32]) {
    columns(isa, rows, weights, 0..weights.outputs(), epilogue, out);
}

/// Computes some columns of a product, `[count, columns]`. The first must be a multiple of 64.
///
/// # Panics
/// If the lengths of rows, weights, columns and `out` do not match.
pub fn product_columns(
    isa: Isa,
    rows: &Activations,
    weights: &PackedWeights,
    range: Range<usize>,
    out: &mut [f32],
) {
    columns(isa, rows, weights, range, Epilogue::Store, out);
}

fn columns(
    isa: Isa,
    rows: &Activations,
    weights: &PackedWeights,
    range: Range<usize>,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    let width = range.len();
    assert_eq!(rows.width(), weights.inputs(), "rows and weights differ in width");
    assert_eq!(
        rows.precision(),
        weights.precision(),
        "rows and weights differ in precision"
    );
    assert!(
        range.start.is_multiple_of(PANEL) && range.end <= weights.outputs(),
        "no columns {range:?}"
    );
    assert_eq!(out.len(), rows.count() * width, "wrong length of the output");
    if rows.count() == 0 {
        return;
    }
    let start = range.start;
    for first in range.step_by(PANEL) {
        let column = first - start;
        let mut target = Target {
            out: &mut out[column..],
            stride: width,
            columns: (width - column).min(PANEL),
            epilogue,
        };
        let index = first / PANEL;
        match weights.precision() {
            Precision::F32 => {
                let rows = Rows {
                    values: rows.f32(),
                    count: rows.count(),
                    stride: rows.stride(),
                    inputs: rows.stride(),
                };
                f32_panel(isa, rows, weights.panel(index), &mut target);
            }
            Precision::Bf16 => {
                let rows = Rows {
                    values: rows.bf16(),
                    count: rows.count(),
                    stride: rows.stride(),
                    inputs: rows.stride(),
                };
                bf16_panel(isa, rows, weights.panel(index), &mut target);
            }
            Precision::Int8 => {
                let (values, scales, zeros) = rows.int8();
                let rows = Rows {
                    values,
                    count: rows.count(),
                    stride: rows.stride(),
                    inputs: rows.stride(),
                };
                let (columns, sums) = weights.panel_scales(index);
                let scales = Scales {
                    rows: scales,
                    zeros,
                    columns,
                    sums,
                };
                int8_panel(isa, rows, weights.panel(index), scales, &mut target);
            }
        }
    }
    finish(isa);
}

/// Ends a series of panel products: releases state that instructions of `isa` keep between them.
pub(super) fn finish(isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    if isa.amx {
        amx::release();
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
}

/// Multiplies rows by a panel `[inputs, 64]`.
#[allow(unsafe_code)]
pub(super) fn f32_panel(isa: Isa, rows: Rows<'_, f32>, panel: &[f32], target: &mut Target<'_>) {
    rows.check(panel.len(), target);
    #[cfg(target_arch = "x86_64")]
    match isa.level {
        // SAFETY: the processor has the instructions, and `check` validated every length.
        Level::Avx512 => return unsafe { avx512::f32_panel(rows, panel, target) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { avx2::f32_panel(rows, panel, target) },
        Level::Portable => {}
    }
    portable::f32_panel(rows, panel, target);
}

/// Multiplies rows by a panel `[inputs / 2, 64, 2]`.
#[allow(unsafe_code)]
pub(super) fn bf16_panel(isa: Isa, rows: Rows<'_, u16>, panel: &[u16], target: &mut Target<'_>) {
    rows.check(panel.len(), target);
    #[cfg(target_arch = "x86_64")]
    match isa.level {
        Level::Avx512 if isa.amx && amx::fits(2 * rows.inputs) => {
            // SAFETY: AMX is usable, rows are whole lines, and `check` validated every length.
            return unsafe { amx::bf16_panel(rows, panel, target) };
        }
        // SAFETY: the processor has the instructions, and `check` validated every length.
        Level::Avx512 if isa.bf16 => return unsafe { avx512::bf16_panel(rows, panel, target) },
        // SAFETY: as above.
        Level::Avx2 | Level::Avx512 => return unsafe { avx2::bf16_panel(rows, panel, target) },
        Level::Portable => {}
    }
    portable::bf16_panel(rows, panel, target);
}

/// Multiplies rows by a panel `[inputs / 4, 64, 4]`.
#[allow(unsafe_code)]
pub(super) fn int8_panel(
    isa: Isa,
    rows: Rows<'_, u8>,
    panel: &[i8],
    scales: Scales<'_>,
    target: &mut Target<'_>,
) {
    rows.check(panel.len(), target);
    assert!(
        scales.rows.len() >= rows.count && scales.zeros.len() >= rows.count,
        "rows without a scale"
    );
    assert!(
        scales.columns.len() >= PANEL && scales.sums.len() >= PANEL,
        "columns without a scale"
    );
    #[cfg(target_arch = "x86_64")]
    match isa.level {
        Level::Avx512 if isa.amx && rows.count >= amx::LEAST_INT8_ROWS && amx::fits(rows.inputs) => {
            // SAFETY: AMX is usable, rows are whole lines, and the checks above validated every length.
            return unsafe { amx::int8_panel(rows, panel, scales, target) };
        }
        // SAFETY: the processor has the instructions, and the checks above validated every length.
        Level::Avx512 if isa.vnni => return unsafe { avx512::int8_panel(rows, panel, scales, target) },
        // SAFETY: as above.
        Level::Avx2 | Level::Avx512 => return unsafe { avx2::int8_panel(rows, panel, scales, target) },
        Level::Portable => {}
    }
    portable::int8_panel(rows, panel, scales, target);
}
