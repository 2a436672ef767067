//! Products in plain Rust: the fallback, and the scalar twin of the vector kernels.

use super::PANEL;
use super::lanes::from_bf16;
use super::product::{Epilogue, Rows, Scales, Target};

/// Stores a row of results.
pub(super) fn put(target: &mut Target<'_>, row: usize, values: &[f32]) {
    let first = row * target.stride;
    let out = &mut target.out[first..first + target.columns];
    for (out, value) in out.iter_mut().zip(values) {
        *out = match target.epilogue {
            Epilogue::Store => *value,
            Epilogue::Add => *out + value,
            Epilogue::Relu => value.max(0.0),
        };
    }
}

pub(super) fn f32_panel(rows: Rows<'_, f32>, panel: &[f32], target: &mut Target<'_>) {
    for row in 0..rows.count {
        let mut sums = [0f32; PANEL];
        let values = &rows.values[row * rows.stride..][..rows.inputs];
        for (value, weights) in values.iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
        put(target, row, &sums);
    }
}

pub(super) fn bf16_panel(rows: Rows<'_, u16>, panel: &[u16], target: &mut Target<'_>) {
    for row in 0..rows.count {
        let mut sums = [0f32; PANEL];
        let values = &rows.values[row * rows.stride..][..rows.inputs];
        for (pair, weights) in values.chunks_exact(2).zip(panel.chunks_exact(2 * PANEL)) {
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(2)) {
                // The second factor first, as `vdpbf16ps` does.
                *sum += from_bf16(pair[1]) * from_bf16(weights[1]);
                *sum += from_bf16(pair[0]) * from_bf16(weights[0]);
            }
        }
        put(target, row, &sums);
    }
}

pub(super) fn int8_panel(rows: Rows<'_, u8>, panel: &[i8], scales: Scales<'_>, target: &mut Target<'_>) {
    for row in 0..rows.count {
        let mut sums = [0i32; PANEL];
        let values = &rows.values[row * rows.stride..][..rows.inputs];
        for (group, weights) in values.chunks_exact(4).zip(panel.chunks_exact(4 * PANEL)) {
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(4)) {
                let products = group.iter().zip(weights);
                *sum += products
                    .map(|(value, weight)| i32::from(*value) * i32::from(*weight))
                    .sum::<i32>();
            }
        }
        let mut values = [0f32; PANEL];
        for (column, value) in values.iter_mut().enumerate() {
            let sum = sums[column] - scales.zeros[row] * scales.sums[column];
            *value = sum as f32 * (scales.rows[row] * scales.columns[column]);
        }
        put(target, row, &values);
    }
}
