//! Types of weights and activations on the CPU.

use candle_core::{Device, Module, Result, Tensor};
use candle_nn::Activation;

use crate::kernels::PackedWeights;
use crate::model::backend::DistanceTable;

/// `[rows, width]`.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(super) values: Vec<f32>,
    pub(super) width: usize,
}

impl Rows {
    pub(super) fn count(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Resizes to `[count, width]` with unspecified values.
    pub(super) fn shape(&mut self, count: usize, width: usize) -> &mut [f32] {
        self.width = width;
        self.values.resize(count * width, 0.0);
        &mut self.values
    }
}

/// A projection.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(super) weights: PackedWeights,
    pub(super) bias: Option<Vec<f32>>,
}

impl Linear {
    /// Returns the width of the result.
    pub(super) fn outputs(&self) -> usize {
        self.weights.outputs()
    }

    /// Adds the bias, if any, to every row of a result.
    pub(super) fn add_bias(&self, rows: &mut [f32]) {
        if let Some(bias) = &self.bias {
            add_to_rows(bias, rows);
        }
    }
}

/// Adds a vector to every row.
pub(super) fn add_to_rows(vector: &[f32], rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(vector.len()) {
        row.iter_mut().zip(vector).for_each(|(value, own)| *value += own);
    }
}

/// Weight of a normalization.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) epsilon: f32,
}

/// Embedding table.
#[derive(Debug)]
pub(crate) struct Embedding {
    pub(super) vectors: Vectors,
    pub(super) width: usize,
}

/// Embedding vectors: f32, or bf16 with bf16 and int8 products.
#[derive(Debug)]
pub(super) enum Vectors {
    F32(Vec<f32>),
    Bf16(Vec<half::bf16>),
}

/// A position bias.
#[derive(Debug)]
pub(crate) struct Bias {
    pub(super) table: DistanceTable,
    /// `[heads, center + 1]`: the values of the distances back from a query, nearest first.
    pub(super) back: Vec<f32>,
}

pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// Returns the width of a head.
pub(super) fn head_width(inner: usize, heads: usize) -> usize {
    inner / heads.max(1)
}

/// Applies an activation without a kernel of its own, using candle: `inner` is `[count, d_ff]`, or `[count, 2 · d_ff]` if
/// gated.
pub(super) fn activate(
    activation: Activation,
    gated: bool,
    inner: &[f32],
    count: usize,
    d_ff: usize,
) -> Result<Vec<f32>> {
    let inner = Tensor::from_slice(inner, (count, inner.len() / count), &Device::Cpu)?;
    let part = |index: usize| inner.narrow(1, index * d_ff, d_ff)?.contiguous();
    let activated = activation.forward(&part(0)?)?;
    numbers(&if gated { (activated * part(1)?)? } else { activated })
}
