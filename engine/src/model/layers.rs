//! The layers that a T5 block is made of, on rows: [rows, width] in, [rows, width] out.

use candle_core::{D, Module, Result, Tensor};
use candle_nn::Activation;

use super::product::product;
use crate::config::T5Config;
use crate::error;
use crate::weights::Weights;

/// A projection without bias: x · Wᵀ.
#[derive(Debug)]
pub(crate) struct Linear {
    /// [inputs, outputs], laid out so: a product with few rows then reads it in order, and packs nothing.
    weight: Tensor,
}

impl Linear {
    /// Loads `<name>.weight`, [outputs, inputs].
    pub(crate) fn load(weights: &Weights, name: &str, inputs: usize, outputs: usize) -> error::Result<Self> {
        Self::new(&weights.get(&format!("{name}.weight"), &[outputs, inputs])?)
    }

    /// Takes a weight of [outputs, inputs].
    pub(crate) fn new(weight: &Tensor) -> error::Result<Self> {
        Ok(Self {
            weight: weight.t()?.contiguous()?,
        })
    }

    /// [rows, inputs] → [rows, outputs].
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        product(rows, &self.weight)
    }
}

/// T5's normalization: x / √(mean(x²) + ε) · weight. No mean is taken off and there is no bias.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    epsilon: f32,
}

impl RmsNorm {
    /// Loads `<name>.weight`, [d_model].
    pub(crate) fn load(weights: &Weights, name: &str, config: &T5Config) -> error::Result<Self> {
        let weight = weights.get(&format!("{name}.weight"), &[config.d_model])?;
        Ok(Self {
            weight,
            epsilon: config.layer_norm_epsilon as f32,
        })
    }

    /// [rows, d_model] → the same; the mean square is taken in f32 whatever the precision.
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(&rows.contiguous()?, &self.weight, self.epsilon)
    }
}

/// The feed-forward layer of a block with its normalization and residual.
#[derive(Debug)]
pub(crate) struct FeedForward {
    norm: RmsNorm,
    /// `wi` of T5 1.0, `wi_0` where it is gated.
    inner: Linear,
    /// `wi_1`, gated by the activation of the other.
    gate: Option<Linear>,
    outer: Linear,
    activation: Activation,
}

impl FeedForward {
    /// Loads `<block>.layer.<index>`.
    pub(crate) fn load(weights: &Weights, layer: &str, config: &T5Config) -> error::Result<Self> {
        let (wide, narrow) = (config.d_ff, config.d_model);
        let dense =
            |name: &str| Linear::load(weights, &format!("{layer}.DenseReluDense.{name}"), narrow, wide);
        let (inner, gate) = match config.gated {
            true => (dense("wi_0")?, Some(dense("wi_1")?)),
            false => (dense("wi")?, None),
        };
        Ok(Self {
            norm: RmsNorm::load(weights, &format!("{layer}.layer_norm"), config)?,
            inner,
            gate,
            outer: Linear::load(weights, &format!("{layer}.DenseReluDense.wo"), wide, narrow)?,
            activation: config.activation,
        })
    }

    /// [rows, d_model] → the same, residual added.
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let normed = self.norm.forward(rows)?;
        let inner = self.inner.forward(&normed)?;
        let inner = self.activation.forward(&inner)?;
        let inner = match &self.gate {
            Some(gate) => (inner * gate.forward(&normed)?)?,
            None => inner,
        };
        rows + self.outer.forward(&inner)?
    }
}

/// The four projections of an attention layer and its normalization.
#[derive(Debug)]
pub(crate) struct Attention {
    norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Attention {
    /// Loads `<layer>.<kind>`: `SelfAttention` or `EncDecAttention`.
    pub(crate) fn load(weights: &Weights, layer: &str, kind: &str, config: &T5Config) -> error::Result<Self> {
        let (model, inner) = (config.d_model, config.inner_dim());
        let load = |name: &str, inputs, outputs| {
            Linear::load(weights, &format!("{layer}.{kind}.{name}"), inputs, outputs)
        };
        Ok(Self {
            norm: RmsNorm::load(weights, &format!("{layer}.layer_norm"), config)?,
            query: load("q", model, inner)?,
            key: load("k", model, inner)?,
            value: load("v", model, inner)?,
            output: load("o", inner, model)?,
        })
    }

    /// [rows, d_model] → normalized.
    pub(crate) fn normed(&self, rows: &Tensor) -> Result<Tensor> {
        self.norm.forward(rows)
    }

    /// Queries of normalized rows: [rows, heads · d_kv].
    pub(crate) fn queries(&self, normed: &Tensor) -> Result<Tensor> {
        self.query.forward(normed)
    }

    /// Keys and values of rows: [rows, heads · d_kv] each.
    pub(crate) fn keys_values(&self, rows: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.key.forward(rows)?, self.value.forward(rows)?))
    }

    /// [rows, heads · d_kv] → [rows, d_model], added to `residual`.
    pub(crate) fn output(&self, attended: &Tensor, residual: &Tensor) -> Result<Tensor> {
        residual + self.output.forward(attended)?
    }
}

/// softmax(Q · Kᵀ + bias) · V. T5 doesn't scale the scores: that is in its weights.
///
/// `query` is [batch, heads, queries, d_kv], `key` and `value` [batch, heads, keys, d_kv], `bias` anything that
/// broadcasts to [batch, heads, queries, keys]; the result is as `query`.
pub(crate) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let scores = product(query, &key.transpose(D::Minus2, D::Minus1)?)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    product(&candle_nn::ops::softmax_last_dim(&scores)?, value)
}

/// [batch · tokens, heads · d_kv] → [batch, heads, tokens, d_kv], contiguous.
pub(crate) fn split_heads(rows: &Tensor, batch: usize, heads: usize) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    rows.reshape((batch, count / batch, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// [batch, heads, tokens, d_kv] → [batch · tokens, heads · d_kv].
pub(crate) fn join_heads(heads: &Tensor) -> Result<Tensor> {
    let (batch, count, tokens, width) = heads.dims4()?;
    heads.transpose(1, 2)?.reshape((batch * tokens, count * width))
}
