//! The left operand of a product: rows of activations, converted once for all products that read them.

use super::lanes::{LANES, fold, sum, to_bf16, versions};
use super::weights::{Lines, group};
use super::{Isa, Precision};

/// Converted rows, `[count, width]`.
#[derive(Debug)]
pub struct Activations {
    precision: Precision,
    count: usize,
    width: usize,
    /// Elements from one row to the next: `width`, rounded up to whole groups.
    stride: usize,
    /// The converted elements. Rows of whole cache lines start on a cache line: AMX takes twice as long to load lines
    /// that straddle two.
    values: Lines,
    /// int8: an element x is stored as x / scale + zero.
    scales: Vec<f32>,
    zeros: Vec<i32>,
    normed: Vec<f32>,
}

impl Default for Activations {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            count: 0,
            width: 0,
            stride: 0,
            values: Lines::default(),
            scales: Vec::new(),
            zeros: Vec::new(),
            normed: Vec::new(),
        }
    }
}

impl Activations {
    /// Converts rows of `width` elements, stored one after the other. int8 maps the range of each row, including 0, to
    /// 256 steps.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows.
    pub fn fill(&mut self, isa: Isa, precision: Precision, rows: &[f32], width: usize) {
        self.shape(precision, rows.len(), width);
        for (index, row) in rows.chunks_exact(width).enumerate() {
            self.convert(isa, index, row);
        }
    }

    /// Converts x / √(mean(x²) + ε) · weight · scale of each row x: T5's normalization fused with the conversion.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows of `weight.len()` elements.
    pub fn fill_normed(
        &mut self,
        isa: Isa,
        precision: Precision,
        rows: &[f32],
        weight: &[f32],
        epsilon: f32,
        scale: f32,
    ) {
        self.shape(precision, rows.len(), weight.len());
        let mut normed = std::mem::take(&mut self.normed);
        normed.resize(weight.len(), 0.0);
        for (index, row) in rows.chunks_exact(weight.len()).enumerate() {
            norm_row(isa, row, weight, epsilon, scale, &mut normed);
            self.convert(isa, index, &normed);
        }
        self.normed = normed;
    }

    fn shape(&mut self, precision: Precision, numbers: usize, width: usize) {
        assert!(
            width > 0 && numbers.is_multiple_of(width),
            "{numbers} elements are not a whole number of rows of {width}"
        );
        self.precision = precision;
        self.width = width;
        self.count = numbers / width;
        self.stride = width.next_multiple_of(group(precision));
        let padded = self.count * self.stride;
        match precision {
            Precision::F32 => self.values.resize::<f32>(padded),
            Precision::Bf16 => self.values.resize::<u16>(padded),
            Precision::Int8 => {
                self.values.resize::<u8>(padded);
                self.scales.resize(self.count, 0.0);
                self.zeros.resize(self.count, 0);
            }
        }
    }

    fn convert(&mut self, isa: Isa, index: usize, row: &[f32]) {
        let place = index * self.stride..(index + 1) * self.stride;
        match self.precision {
            Precision::F32 => self.values.get_mut::<f32>()[place].copy_from_slice(row),
            Precision::Bf16 => bf16_row(isa, row, &mut self.values.get_mut::<u16>()[place]),
            Precision::Int8 => {
                let (scale, zero) = int8_row(isa, row, &mut self.values.get_mut::<u8>()[place]);
                (self.scales[index], self.zeros[index]) = (scale, zero);
            }
        }
    }

    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the width of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the format of the converted elements.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn f32(&self) -> &[f32] {
        &self.values.get::<f32>()[..self.count * self.stride]
    }

    pub(super) fn bf16(&self) -> &[u16] {
        &self.values.get::<u16>()[..self.count * self.stride]
    }

    /// Returns the integers, and the scale and zero point of each row.
    pub(super) fn int8(&self) -> (&[u8], &[f32], &[i32]) {
        (
            &self.values.get::<u8>()[..self.count * self.stride],
            &self.scales[..self.count],
            &self.zeros[..self.count],
        )
    }
}

versions! {
    /// Computes x / √(mean(x²) + ε) · weight · scale.
    pub(super) fn norm_row(row: &[f32], weight: &[f32], epsilon: f32, scale: f32, out: &mut [f32]) = norm_row_body
}

#[inline(always)]
fn norm_row_body(row: &[f32], weight: &[f32], epsilon: f32, scale: f32, out: &mut [f32]) {
    let squares = sum(fold(row, 0.0, |sum, value| sum + value * value));
    let factor = scale / (squares / row.len() as f32 + epsilon).sqrt();
    for ((out, value), weight) in out.iter_mut().zip(row).zip(weight) {
        *out = value * factor * weight;
    }
}

versions! {
    /// Rounds a row to bfloat16 and zeroes the rest of `out`.
    pub(super) fn bf16_row(row: &[f32], out: &mut [u16]) = bf16_row_body
}

#[inline(always)]
fn bf16_row_body(row: &[f32], out: &mut [u16]) {
    let (out, beyond) = out.split_at_mut(row.len());
    for (out, value) in out.iter_mut().zip(row) {
        *out = to_bf16(*value);
    }
    beyond.fill(0);
}

versions! {
    /// Quantizes a row to 0..=255 and returns its scale and zero point. A row with NaN or infinity gets a NaN scale, so
    /// that its results are NaN too.
    fn int8_row(row: &[f32], out: &mut [u8]) -> (f32, i32) = int8_row_body
}

#[inline(always)]
fn int8_row_body(row: &[f32], out: &mut [u8]) -> (f32, i32) {
    let lows: [f32; LANES] = fold(row, 0.0, |low, value| if value < low { value } else { low });
    let highs: [f32; LANES] = fold(row, 0.0, |high, value| if value > high { value } else { high });
    let low = lows.into_iter().fold(0.0, f32::min);
    let high = highs.into_iter().fold(0.0, f32::max);
    // Infinity times 0 is NaN. The comparisons above ignore both.
    let broken = sum(fold(row, 0.0, |sum, value| sum + value * 0.0)).is_nan();
    let range = high - low;
    let scale = if range > 0.0 { range / 255.0 } else { 1.0 };
    let inverse = 1.0 / scale;
    // 1.5 · 2^23: adding it rounds to an integer, ties to even, in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let zero = (-low * inverse + ROUND) - ROUND;
    let offset = zero + ROUND;
    let (out, beyond) = out.split_at_mut(row.len());
    for (out, value) in out.iter_mut().zip(row) {
        let step = value * inverse + offset - ROUND;
        let step = if step > 0.0 { step } else { 0.0 };
        let step = if step < 255.0 { step } else { 255.0 };
        *out = ((step + ROUND).to_bits() & 0xFF) as u8;
    }
    beyond.fill(0);
    (if broken { f32::NAN } else { scale }, zero as i32)
}
