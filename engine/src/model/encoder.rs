//! The encoder: token ids of a text to one state per token.

use candle_core::{DType, Device, Result, Tensor};

use super::layers::{Attention, FeedForward, RmsNorm, attend, join_heads, split_heads};
use super::position::PositionBias;
use crate::config::{Architecture, T5Config};
use crate::error;
use crate::weights::Weights;

#[derive(Debug)]
struct Block {
    attention: Attention,
    feed_forward: FeedForward,
    /// UMT5 only; the others share the first layer's.
    bias: Option<PositionBias>,
}

/// The encoder stack.
#[derive(Debug)]
pub(crate) struct Encoder {
    blocks: Vec<Block>,
    norm: RmsNorm,
    heads: usize,
}

impl Encoder {
    /// Loads `encoder.*`.
    pub(crate) fn load(weights: &Weights, config: &T5Config) -> error::Result<Self> {
        let mut blocks = Vec::with_capacity(config.num_layers);
        for index in 0..config.num_layers {
            let block = format!("encoder.block.{index}.layer");
            blocks.push(Block {
                attention: Attention::load(weights, &format!("{block}.0"), "SelfAttention", config)?,
                feed_forward: FeedForward::load(weights, &format!("{block}.1"), config)?,
                bias: load_bias(weights, &format!("{block}.0"), index, config, true)?,
            });
        }
        let norm = RmsNorm::load(weights, "encoder.final_layer_norm", config)?;
        Ok(Self {
            blocks,
            norm,
            heads: config.num_heads,
        })
    }

    /// States of a padded batch: `embedded` is [batch · tokens, d_model], and so is the result. `mask` is
    /// [batch, 1, 1, tokens] as [`padding_mask`] makes it, or nothing if no row is padded.
    pub(crate) fn forward(&self, embedded: &Tensor, batch: usize, mask: Option<&Tensor>) -> Result<Tensor> {
        let tokens = embedded.dim(0)? / batch;
        let mut rows = embedded.clone();
        let mut bias = None;
        for block in &self.blocks {
            if let Some(own) = &block.bias {
                let positions = own.get(tokens, tokens)?;
                bias = Some(match mask {
                    Some(mask) => positions.broadcast_add(mask)?,
                    None => positions,
                });
            }
            let normed = block.attention.normed(&rows)?;
            let query = split_heads(&block.attention.queries(&normed)?, batch, self.heads)?;
            let (key, value) = block.attention.keys_values(&normed)?;
            let (key, value) = (
                split_heads(&key, batch, self.heads)?,
                split_heads(&value, batch, self.heads)?,
            );
            let attended = join_heads(&attend(&query, &key, &value, bias.as_ref())?)?;
            rows = block.attention.output(&attended, &rows)?;
            rows = block.feed_forward.forward(&rows)?;
        }
        self.norm.forward(&rows)
    }
}

/// The position bias of a layer: the first one's, for UMT5 each one's.
pub(super) fn load_bias(
    weights: &Weights,
    layer: &str,
    index: usize,
    config: &T5Config,
    bidirectional: bool,
) -> error::Result<Option<PositionBias>> {
    if index > 0 && config.architecture != Architecture::Umt5 {
        return Ok(None);
    }
    let name = format!("{layer}.SelfAttention.relative_attention_bias.weight");
    let table = weights.get(&name, &[config.relative_attention_num_buckets, config.num_heads])?;
    Ok(Some(PositionBias::new(
        &table,
        config.relative_attention_max_distance,
        bidirectional,
    )?))
}

/// 0 where a row of [batch, 1, 1, tokens] has a token, and a number whose exponential is 0 where it is padded; nothing
/// if no row is padded.
pub(super) fn padding_mask(
    lengths: &[usize],
    tokens: usize,
    dtype: DType,
    device: &Device,
) -> Result<Option<Tensor>> {
    if lengths.iter().all(|length| *length == tokens) {
        return Ok(None);
    }
    let hidden = if dtype == DType::F16 { -6e4 } else { -1e9 };
    let mut mask = vec![0f32; lengths.len() * tokens];
    for (row, length) in mask.chunks_mut(tokens).zip(lengths) {
        row[*length..].fill(hidden);
    }
    Tensor::from_vec(mask, (lengths.len(), 1, 1, tokens), device)?
        .to_dtype(dtype)
        .map(Some)
}
