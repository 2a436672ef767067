//! The encoder: token ids to one hidden state per token.

use candle_core::Result;

use super::load::{self, AttentionNames};
use crate::config::{Architecture, T5Config};
use crate::error;
use crate::model::Scratch;
use crate::model::backend::{Backend, DistanceTable, FeedForward};
use crate::weights::Weights;

#[derive(Debug)]
struct Block<B: Backend> {
    norm: B::Norm,
    /// `[d_model → 3 · heads · d_kv]`.
    query_key_value: B::Linear,
    output: B::Linear,
    feed_forward: FeedForward<B>,
}

/// The encoder stack.
#[derive(Debug)]
pub(crate) struct Encoder<B: Backend> {
    blocks: Vec<Block<B>>,
    /// One for all layers; UMT5 has one per layer.
    bias: Vec<B::Bias>,
    norm: B::Norm,
    heads: usize,
}

impl<B: Backend> Encoder<B> {
    /// Loads `encoder.*`.
    pub(crate) fn load(
        backend: &B,
        weights: &Weights,
        config: &T5Config,
        max_tokens: usize,
    ) -> error::Result<Self> {
        let (mut blocks, mut bias) = (Vec::new(), Vec::new());
        for index in 0..config.num_layers {
            let layer = |part: usize| format!("encoder.block.{index}.layer.{part}");
            let names = AttentionNames::new(&layer(0), "SelfAttention");
            blocks.push(Block {
                norm: load::norm(backend, weights, &layer(0), config)?,
                query_key_value: names.query_key_value(backend, weights, config)?,
                output: names.output(backend, weights, config)?,
                feed_forward: load::feed_forward(backend, weights, &layer(1), config)?,
            });
            if index == 0 || config.architecture == Architecture::Umt5 {
                let table = names.position_bias(weights, config)?;
                bias.push(backend.bias(table.bidirectional_bias(max_tokens))?);
            }
        }
        Ok(Self {
            blocks,
            bias,
            norm: backend.norm(
                &weights.get("encoder.final_layer_norm.weight", &[config.d_model])?,
                config.layer_norm_epsilon as f32,
            )?,
            heads: config.num_heads,
        })
    }

    /// Computes the hidden states of all texts, `[tokens of all texts, d_model]`, into `states`. `ids` contains the
    /// texts one after the other without padding, and `lengths` their token counts. Texts do not attend to each other.
    pub(crate) fn forward(
        &self,
        backend: &mut B,
        embedding: &B::Embedding,
        ids: &[u32],
        lengths: &[usize],
        scratch: &mut Scratch<B::Rows>,
        states: &mut B::Rows,
    ) -> Result<()> {
        let Scratch {
            rows,
            projected,
            attended,
        } = scratch;
        backend.embed(embedding, ids, rows)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let bias = &self.bias[index.min(self.bias.len() - 1)];
            backend.project(rows, Some(&block.norm), &block.query_key_value, projected)?;
            backend.encoder_attention(projected, lengths, self.heads, bias, attended)?;
            backend.project_onto(rows, attended, &block.output, None)?;
            backend.feed_forward(rows, &block.feed_forward)?;
        }
        backend.normed(rows, &self.norm, states)
    }
}

impl load::BiasTable {
    /// Returns the bias between any two of `tokens` tokens. The encoder attends in both directions.
    fn bidirectional_bias(&self, tokens: usize) -> DistanceTable {
        let center = tokens as i64 - 1;
        self.by_distance(-center..center + 1, true)
    }
}
