//! Types of weights and activations on candle's tensors.

use candle_core::{Result, Tensor};

use super::Tensors;

/// `[rows, width]`, or `None` before the first use.
#[derive(Debug, Default)]
pub(crate) struct Rows(pub(super) Option<Tensor>);

impl Rows {
    pub(super) fn get(&self) -> Result<&Tensor> {
        match &self.0 {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("the rows have no data: nothing was computed yet"),
        }
    }
}

/// x · Wᵀ + b.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[inputs, outputs]`, contiguous.
    pub(super) weight: Tensor,
    /// `[outputs]`.
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let product = rows.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// x / √(mean(x²) + ε) · weight.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(super) weight: Tensor,
    pub(super) epsilon: f32,
}

impl Norm {
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(&rows.contiguous()?, &self.weight, self.epsilon)
    }
}

/// Normalizes the rows if there is a normalization.
pub(super) fn normed_if(norm: Option<&Norm>, rows: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&rows),
        None => Ok(rows),
    }
}

/// A position bias on the device.
#[derive(Debug)]
pub(crate) struct Bias {
    /// `[length, heads]`.
    pub(super) table: Tensor,
    pub(super) center: usize,
}

impl Bias {
    /// Returns the table indices of queries at `queries` and keys at 0..keys, query after query.
    pub(super) fn places(&self, queries: impl Iterator<Item = usize>, keys: usize) -> Result<Vec<u32>> {
        let length = self.table.dim(0)?;
        let mut places = Vec::new();
        for query in queries {
            // Keys beyond the table are padding.
            let place = |key: usize| (self.center + key).saturating_sub(query).min(length - 1) as u32;
            places.extend((0..keys).map(place));
        }
        Ok(places)
    }

    /// Returns the bias between all tokens of a text, `[1, heads, tokens, tokens]`.
    pub(super) fn within(&self, backend: &Tensors, tokens: usize) -> Result<Tensor> {
        let places = backend.index(&self.places(0..tokens, tokens)?)?;
        let bias = self.table.index_select(&places, 0)?;
        bias.reshape((1, tokens, tokens, self.table.dim(1)?))?
            .permute((0, 3, 1, 2))?
            .contiguous()
    }
}
