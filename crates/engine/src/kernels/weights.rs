//! Packed weight matrices, laid out in the order in which products read them.

use super::lanes::to_bf16;
use super::{PANEL, Precision};

/// A cache line. Panels start at one.
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line([u64; 8]);

/// Memory aligned to cache lines.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// Allocates `count` zero elements of type T.
    pub(super) fn zeros<T: bytemuck::Pod>(count: usize) -> Self {
        Self(vec![
            Line::default();
            (count * size_of::<T>()).div_ceil(size_of::<Line>())
        ])
    }

    /// Resizes to `count` elements of type T with unspecified values.
    pub(super) fn resize<T: bytemuck::Pod>(&mut self, count: usize) {
        let lines = (count * size_of::<T>()).div_ceil(size_of::<Line>());
        self.0.resize(lines, Line::default());
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    pub(super) fn get<T: bytemuck::Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.0)
    }

    pub(super) fn get_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// A matrix `[inputs, outputs]` in panels of 64 outputs, each of which a product reads sequentially.
///
/// A panel's layout is `[inputs, 64]` for f32, `[inputs / 2, 64, 2]` for bf16 and `[inputs / 4, 64, 4]` for int8, so
/// that the inputs of one instruction are adjacent. Missing inputs and outputs are 0.
#[derive(Debug)]
pub struct PackedWeights {
    precision: Precision,
    inputs: usize,
    outputs: usize,
    panels: Lines,
    /// int8: scale of each output's weights.
    scales: Vec<f32>,
    /// int8: sum of each output's integers.
    sums: Vec<i32>,
}

impl PackedWeights {
    /// Packs row-major checkpoint matrices, `[outputs, inputs]` each, side by side into one. int8 maps the largest
    /// weight of each output to 127.
    ///
    /// # Panics
    /// If a part is not a whole number of rows of `inputs` elements.
    pub fn pack(precision: Precision, inputs: usize, parts: &[&[f32]]) -> Self {
        assert!(inputs > 0, "a matrix without inputs");
        for part in parts {
            assert_eq!(
                part.len() % inputs,
                0,
                "a part is not a whole number of rows of {inputs} inputs"
            );
        }
        let outputs: usize = parts.iter().map(|part| part.len() / inputs).sum();
        let padded_outputs = outputs.next_multiple_of(PANEL);
        let group = group(precision);
        let numbers = padded_outputs * inputs.next_multiple_of(group);
        let (mut scales, mut sums) = (Vec::new(), Vec::new());
        if precision == Precision::Int8 {
            (scales, sums) = (vec![0.0; padded_outputs], vec![0; padded_outputs]);
        }
        let mut panels = match precision {
            Precision::F32 => Lines::zeros::<f32>(numbers),
            Precision::Bf16 => Lines::zeros::<u16>(numbers),
            Precision::Int8 => Lines::zeros::<i8>(numbers),
        };
        let place = |output: usize, input: usize| {
            let (panel, column) = (output / PANEL, output % PANEL);
            let panel = panel * PANEL * inputs.next_multiple_of(group);
            panel + (input / group * PANEL + column) * group + input % group
        };
        let rows = parts.iter().flat_map(|part| part.chunks_exact(inputs));
        for (output, row) in rows.enumerate() {
            match precision {
                Precision::F32 => {
                    let panels = panels.get_mut::<f32>();
                    row.iter()
                        .enumerate()
                        .for_each(|(input, weight)| panels[place(output, input)] = *weight);
                }
                Precision::Bf16 => {
                    let panels = panels.get_mut::<u16>();
                    row.iter()
                        .enumerate()
                        .for_each(|(input, weight)| panels[place(output, input)] = to_bf16(*weight));
                }
                Precision::Int8 => {
                    let panels = panels.get_mut::<i8>();
                    let most = row.iter().fold(0f32, |most, weight| most.max(weight.abs()));
                    let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
                    scales[output] = scale;
                    for (input, weight) in row.iter().enumerate() {
                        let unit = (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
                        panels[place(output, input)] = unit;
                        sums[output] += i32::from(unit);
                    }
                }
            }
        }
        Self {
            precision,
            inputs,
            outputs,
            panels,
            scales,
            sums,
        }
    }

    /// Returns the width of the left operand's rows.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the width of the result's rows.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the number format.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Returns the elements of a panel.
    fn panel_length(&self) -> usize {
        PANEL * self.inputs.next_multiple_of(group(self.precision))
    }

    /// Returns panel `index` as elements of type T.
    pub(super) fn panel<T: bytemuck::Pod>(&self, index: usize) -> &[T] {
        let length = self.panel_length();
        &self.panels.get::<T>()[index * length..(index + 1) * length]
    }

    /// int8: returns the scales and sums of a panel's outputs.
    pub(super) fn panel_scales(&self, index: usize) -> (&[f32], &[i32]) {
        let columns = index * PANEL..(index + 1) * PANEL;
        (&self.scales[columns.clone()], &self.sums[columns])
    }
}

/// Returns the number of adjacent inputs.
pub(super) fn group(precision: Precision) -> usize {
    match precision {
        Precision::F32 => 1,
        Precision::Bf16 => 2,
        Precision::Int8 => 4,
    }
}
