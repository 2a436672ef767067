//! Feed-forward layers, and sums with the rows that they belong to.

use candle_core::Result;
use candle_nn::Activation;

use super::Cpu;
use super::forms::{Linear, Norm, Rows, activate};
use crate::kernels::{Activations, Epilogue, Isa, gelu_gate, product, rms_norm, silu_gate};
use crate::model::backend::FeedForward;

/// Rows per block of a feed-forward layer: the inner activations stay in the second-level cache.
const FEED_FORWARD_ROWS: usize = 96;

impl Cpu {
    /// See [`Backend::feed_forward`](crate::model::Backend::feed_forward).
    pub(super) fn add_feed_forward(&mut self, rows: &mut Rows, layer: &FeedForward<Self>) -> Result<()> {
        let (isa, precision, width) = (self.isa, self.precision, rows.width);
        for rows in rows.values.chunks_mut(FEED_FORWARD_ROWS * width) {
            let count = rows.len() / width;
            self.activations
                .fill_normed(isa, precision, rows, &layer.norm.weight, layer.norm.epsilon, 1.0);
            let fused = !layer.gated && layer.activation == Activation::Relu && layer.inner.bias.is_none();
            let epilogue = if fused { Epilogue::Relu } else { Epilogue::Store };
            self.wide.resize(count * layer.inner.outputs(), 0.0);
            product(
                isa,
                &self.activations,
                &layer.inner.weights,
                epilogue,
                &mut self.wide,
            );
            layer.inner.add_bias(&mut self.wide);
            let activated = match (layer.gated, layer.activation) {
                _ if fused => &self.wide,
                (true, Activation::Silu | Activation::Swish) => {
                    self.gated.resize(count * layer.d_ff, 0.0);
                    silu_gate(isa, &self.wide, layer.d_ff, &mut self.gated);
                    &self.gated
                }
                (true, Activation::NewGelu | Activation::GeluPytorchTanh) => {
                    self.gated.resize(count * layer.d_ff, 0.0);
                    gelu_gate(isa, &self.wide, layer.d_ff, &mut self.gated);
                    &self.gated
                }
                (gated, activation) => {
                    self.gated = activate(activation, gated, &self.wide, count, layer.d_ff)?;
                    &self.gated
                }
            };
            self.inner.fill(isa, precision, activated, layer.d_ff);
            let norm = layer.post_norm.as_ref();
            add_product(isa, &self.inner, &layer.outer, norm, &mut self.added, rows);
        }
        Ok(())
    }
}

/// Computes `rows += linear(input)`, or `rows += norm(linear(input))` with `scratch` for the sum.
pub(super) fn add_product(
    isa: Isa,
    input: &Activations,
    linear: &Linear,
    norm: Option<&Norm>,
    scratch: &mut Vec<f32>,
    rows: &mut [f32],
) {
    let Some(norm) = norm else {
        product(isa, input, &linear.weights, Epilogue::Add, rows);
        linear.add_bias(rows);
        return;
    };
    scratch.resize(2 * rows.len(), 0.0);
    let (added, normed) = scratch.split_at_mut(rows.len());
    product(isa, input, &linear.weights, Epilogue::Store, added);
    linear.add_bias(added);
    rms_norm(isa, added, &norm.weight, norm.epsilon, normed);
    for (row, value) in rows.iter_mut().zip(normed) {
        *row += *value;
    }
}
