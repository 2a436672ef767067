//! The decoder: one step for every row of the batch at a time.

use candle_core::{Result, Tensor};

use super::encoder::load_bias;
use super::layers::{Attention, FeedForward, RmsNorm, attend, join_heads, split_heads};
use super::position::PositionBias;
use super::state::{CrossCache, DecoderState};
use crate::config::T5Config;
use crate::error;
use crate::weights::Weights;

#[derive(Debug)]
struct Block {
    self_attention: Attention,
    cross_attention: Attention,
    feed_forward: FeedForward,
    /// UMT5 only; the others share the first layer's.
    bias: Option<PositionBias>,
}

/// The decoder stack.
#[derive(Debug)]
pub(crate) struct Decoder {
    blocks: Vec<Block>,
    norm: RmsNorm,
    heads: usize,
}

impl Decoder {
    /// Loads `decoder.*`.
    pub(crate) fn load(weights: &Weights, config: &T5Config) -> error::Result<Self> {
        let mut blocks = Vec::with_capacity(config.num_decoder_layers);
        for index in 0..config.num_decoder_layers {
            let block = format!("decoder.block.{index}.layer");
            blocks.push(Block {
                self_attention: Attention::load(weights, &format!("{block}.0"), "SelfAttention", config)?,
                cross_attention: Attention::load(weights, &format!("{block}.1"), "EncDecAttention", config)?,
                feed_forward: FeedForward::load(weights, &format!("{block}.2"), config)?,
                // The decoder sees only what is before it: its buckets are unidirectional.
                bias: load_bias(weights, &format!("{block}.0"), index, config, false)?,
            });
        }
        let norm = RmsNorm::load(weights, "decoder.final_layer_norm", config)?;
        Ok(Self {
            blocks,
            norm,
            heads: config.num_heads,
        })
    }

    /// Keys and values of the cross-attention, one pair per layer: computed once for a request, shared by its beams.
    ///
    /// `states` is [batch · tokens, d_model]; each result is [batch, heads, tokens, d_kv].
    pub(crate) fn cross_keys_values(&self, states: &Tensor, batch: usize) -> Result<Vec<(Tensor, Tensor)>> {
        let project = |block: &Block| {
            let (key, value) = block.cross_attention.keys_values(states)?;
            Ok((
                split_heads(&key, batch, self.heads)?,
                split_heads(&value, batch, self.heads)?,
            ))
        };
        self.blocks.iter().map(project).collect()
    }

    /// One decode step: `embedded` is the last token of every row, [rows, d_model]; the result is what the output head
    /// reads, of the same shape. Keys and values of this step are added to the state's cache.
    pub(crate) fn step(&self, embedded: &Tensor, state: &mut DecoderState) -> Result<Tensor> {
        let count = embedded.dim(0)?;
        let mut rows = embedded.clone();
        let keys = state.begin_step()?;
        let mut bias = None;
        for (layer, block) in self.blocks.iter().enumerate() {
            if let Some(own) = &block.bias {
                bias = Some(own.get(1, keys)?);
            }
            let normed = block.self_attention.normed(&rows)?;
            let (key, value) = block.self_attention.keys_values(&normed)?;
            // One token per row: [rows, heads, 1, d_kv] is the same memory as [rows, heads · d_kv].
            let query = block
                .self_attention
                .queries(&normed)?
                .reshape((count, self.heads, 1, ()))?;
            let (key, value) = state.append(layer, &key, &value)?;
            let attended = attend(&query, &key, &value, bias.as_ref())?.reshape((count, ()))?;
            rows = block.self_attention.output(&attended, &rows)?;

            let normed = block.cross_attention.normed(&rows)?;
            let queries = block.cross_attention.queries(&normed)?;
            let attended = self.cross_attend(&queries, layer, state.cross())?;
            rows = block.cross_attention.output(&attended, &rows)?;

            rows = block.feed_forward.forward(&rows)?;
        }
        state.end_step();
        self.norm.forward(&rows)
    }

    /// Cross-attention: the beams of a request are so many queries against the one set of keys and values.
    fn cross_attend(&self, queries: &Tensor, layer: usize, cross: &CrossCache) -> Result<Tensor> {
        let (key, value) = cross.layer(layer);
        let mut attended = Vec::new();
        for run in cross.runs() {
            // [requests · beams, heads · d_kv] → [requests, heads, beams, d_kv]
            let query = queries.narrow(0, run.first_row, run.requests * run.beams)?;
            let query = split_heads(&query.contiguous()?, run.requests, self.heads)?;
            let part = |tensor: &Tensor| tensor.narrow(0, run.first_request, run.requests);
            let mask = cross.mask().map(part).transpose()?;
            attended.push(join_heads(&attend(
                &query,
                &part(key)?,
                &part(value)?,
                mask.as_ref(),
            )?)?);
        }
        match attended.as_slice() {
            [only] => Ok(only.clone()),
            several => Tensor::cat(several, 0),
        }
    }
}
