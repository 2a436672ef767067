//! Loads the parts of a block by their checkpoint names.

use std::ops::Range;

use candle_core::Tensor;

use super::position::bucket;
use crate::config::T5Config;
use crate::error::Result;
use crate::model::backend::{Backend, DistanceTable, FeedForward};
use crate::weights::Weights;

/// Loads `<layer>.layer_norm.weight`, `[d_model]`.
pub(super) fn norm<B: Backend>(
    backend: &B,
    weights: &Weights,
    layer: &str,
    config: &T5Config,
) -> Result<B::Norm> {
    let weight = weights.get(&format!("{layer}.layer_norm.weight"), &[config.d_model])?;
    Ok(backend.norm(&weight, config.layer_norm_epsilon as f32)?)
}

/// Loads `<layer>.DenseReluDense.*` with its normalization.
pub(super) fn feed_forward<B: Backend>(
    backend: &B,
    weights: &Weights,
    layer: &str,
    config: &T5Config,
) -> Result<FeedForward<B>> {
    let (wide, narrow) = (config.d_ff, config.d_model);
    let dense =
        |name: &str, shape: [usize; 2]| weights.get(&format!("{layer}.DenseReluDense.{name}.weight"), &shape);
    let inner = match config.gated {
        true => vec![dense("wi_0", [wide, narrow])?, dense("wi_1", [wide, narrow])?],
        false => vec![dense("wi", [wide, narrow])?],
    };
    Ok(FeedForward {
        norm: norm(backend, weights, layer, config)?,
        inner: backend.linear(&inner, None)?,
        outer: backend.linear(&[dense("wo", [narrow, wide])?], None)?,
        d_ff: wide,
        activation: config.activation,
        gated: config.gated,
        post_norm: None,
    })
}

/// Tensor names of an attention layer.
pub(super) struct AttentionNames {
    /// `<layer>.SelfAttention` or `<layer>.EncDecAttention`.
    prefix: String,
}

impl AttentionNames {
    /// Returns the names of `<layer>.<kind>`.
    pub(super) fn new(layer: &str, kind: &str) -> Self {
        Self {
            prefix: format!("{layer}.{kind}"),
        }
    }

    fn inward(&self, name: &str, weights: &Weights, config: &T5Config) -> Result<Tensor> {
        let shape = [config.inner_dim(), config.d_model];
        weights.get(&format!("{}.{name}.weight", self.prefix), &shape)
    }

    fn several<B: Backend>(
        &self,
        names: &[&str],
        backend: &B,
        weights: &Weights,
        config: &T5Config,
    ) -> Result<B::Linear> {
        let parts: Result<Vec<Tensor>> = names
            .iter()
            .map(|name| self.inward(name, weights, config))
            .collect();
        Ok(backend.linear(&parts?, None)?)
    }

    /// Loads `[d_model → 3 · heads · d_kv]`.
    pub(super) fn query_key_value<B: Backend>(
        &self,
        backend: &B,
        weights: &Weights,
        config: &T5Config,
    ) -> Result<B::Linear> {
        self.several(&["q", "k", "v"], backend, weights, config)
    }

    /// Loads `[d_model → heads · d_kv]`.
    pub(super) fn query<B: Backend>(
        &self,
        backend: &B,
        weights: &Weights,
        config: &T5Config,
    ) -> Result<B::Linear> {
        self.several(&["q"], backend, weights, config)
    }

    /// Loads `[d_model → 2 · heads · d_kv]`.
    pub(super) fn key_value<B: Backend>(
        &self,
        backend: &B,
        weights: &Weights,
        config: &T5Config,
    ) -> Result<B::Linear> {
        self.several(&["k", "v"], backend, weights, config)
    }

    /// Loads `[heads · d_kv → d_model]`.
    pub(super) fn output<B: Backend>(
        &self,
        backend: &B,
        weights: &Weights,
        config: &T5Config,
    ) -> Result<B::Linear> {
        let shape = [config.d_model, config.inner_dim()];
        let output = weights.get(&format!("{}.o.weight", self.prefix), &shape)?;
        Ok(backend.linear(&[output], None)?)
    }

    /// Loads `relative_attention_bias`, `[buckets, heads]`.
    pub(super) fn position_bias(&self, weights: &Weights, config: &T5Config) -> Result<BiasTable> {
        let (buckets, heads) = (config.relative_attention_num_buckets, config.num_heads);
        let name = format!("{}.relative_attention_bias.weight", self.prefix);
        let table = weights.get(&name, &[buckets, heads])?;
        Ok(BiasTable {
            table: table.flatten_all()?.to_vec1()?,
            heads,
            buckets,
            max_distance: config.relative_attention_max_distance,
        })
    }
}

/// Learned values per distance bucket and head.
pub(super) struct BiasTable {
    /// `[buckets, heads]`.
    table: Vec<f32>,
    heads: usize,
    buckets: usize,
    max_distance: usize,
}

impl BiasTable {
    /// Returns each head's values for these distances (key position - query position), which must include 0.
    pub(super) fn by_distance(&self, distances: Range<i64>, bidirectional: bool) -> DistanceTable {
        let length = distances.clone().count();
        let center = usize::try_from(-distances.start).unwrap_or(0);
        let places: Vec<usize> = distances
            .map(|distance| bucket(distance, bidirectional, self.buckets, self.max_distance) as usize)
            .collect();
        let of_head = |head: usize| {
            places
                .iter()
                .map(move |place| self.table[place * self.heads + head])
        };
        DistanceTable {
            values: (0..self.heads).flat_map(of_head).collect(),
            heads: self.heads,
            length,
            center,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_are_looked_up_by_distance() {
        let table = BiasTable {
            table: (0..64u8).map(f32::from).collect(),
            heads: 2,
            buckets: 32,
            max_distance: 128,
        };
        let back = table.by_distance(-39..1, false);
        assert_eq!((back.length, back.center), (40, 39));
        // Distance 0 is bucket 0, distance -16 is bucket 16. A bucket's values of all heads are adjacent.
        assert_eq!([back.values[39], back.values[39 - 16]], [0.0, 32.0]);
        assert_eq!([back.values[40 + 39], back.values[40 + 39 - 16]], [1.0, 33.0]);
        let both = table.by_distance(-3..4, true);
        assert_eq!(both.values[..7], [6.0, 4.0, 2.0, 0.0, 34.0, 36.0, 38.0]);
    }
}
