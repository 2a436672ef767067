//! The decoder: one step for all rows at once.

use std::sync::Arc;

use candle_core::Result;

use super::load::{self, AttentionNames};
use crate::config::{Architecture, T5Config};
use crate::error;
use crate::model::backend::{Backend, FeedForward, StepRows};
use crate::model::{Cross, Scratch};
use crate::weights::Weights;

#[derive(Debug)]
struct Block<B: Backend> {
    self_norm: B::Norm,
    /// `[d_model → 3 · heads · d_kv]`.
    query_key_value: B::Linear,
    self_output: B::Linear,
    cross_norm: B::Norm,
    cross_query: B::Linear,
    /// `[d_model → 2 · heads · d_kv]`, applied to the encoder's states.
    cross_key_value: B::Linear,
    cross_output: B::Linear,
    feed_forward: FeedForward<B>,
}

/// The decoder stack.
#[derive(Debug)]
pub(crate) struct Decoder<B: Backend> {
    blocks: Vec<Block<B>>,
    /// One for all layers; UMT5 has one per layer.
    bias: Vec<B::Bias>,
    heads: usize,
}

impl<B: Backend> Decoder<B> {
    /// Loads `decoder.*`. `max_tokens` is the maximum length of a sequence.
    pub(crate) fn load(
        backend: &B,
        weights: &Weights,
        config: &T5Config,
        max_tokens: usize,
    ) -> error::Result<Self> {
        let (mut blocks, mut bias) = (Vec::new(), Vec::new());
        for index in 0..config.num_decoder_layers {
            let layer = |part: usize| format!("decoder.block.{index}.layer.{part}");
            let own = AttentionNames::new(&layer(0), "SelfAttention");
            let cross = AttentionNames::new(&layer(1), "EncDecAttention");
            blocks.push(Block {
                self_norm: load::norm(backend, weights, &layer(0), config)?,
                query_key_value: own.query_key_value(backend, weights, config)?,
                self_output: own.output(backend, weights, config)?,
                cross_norm: load::norm(backend, weights, &layer(1), config)?,
                cross_query: cross.query(backend, weights, config)?,
                cross_key_value: cross.key_value(backend, weights, config)?,
                cross_output: cross.output(backend, weights, config)?,
                feed_forward: load::feed_forward(backend, weights, &layer(2), config)?,
            });
            if index == 0 || config.architecture == Architecture::Umt5 {
                // The decoder attends to earlier tokens only, so its buckets are unidirectional.
                let table = own.position_bias(weights, config)?;
                bias.push(backend.bias(table.by_distance(1 - max_tokens as i64..1, false))?);
            }
        }
        Ok(Self {
            blocks,
            bias,
            heads: config.num_heads,
        })
    }

    /// Computes the cross-attention keys and values of each text. `states` comes from
    /// [`Encoder::forward`](super::encoder::Encoder::forward).
    pub(crate) fn cross(
        &self,
        backend: &mut B,
        states: &B::Rows,
        lengths: &[usize],
        scratch: &mut Scratch<B::Rows>,
    ) -> Result<Vec<Cross<B>>> {
        let mut texts: Vec<Vec<B::KeysValues>> = lengths.iter().map(|_| Vec::new()).collect();
        for block in &self.blocks {
            backend.project(states, None, &block.cross_key_value, &mut scratch.projected)?;
            let layers = backend.keys_values(&scratch.projected, lengths, self.heads)?;
            texts
                .iter_mut()
                .zip(layers)
                .for_each(|(text, layer)| text.push(layer));
        }
        Ok(texts.into_iter().map(Arc::new).collect())
    }

    /// Runs one decoding step. On entry `rows` holds the embeddings of the last tokens, `[rows, d_model]`; on return,
    /// the input of the output head. Stores this step's keys and values in the cache.
    pub(crate) fn step(
        &self,
        backend: &mut B,
        rows: &mut B::Rows,
        step: StepRows<'_>,
        cross: &B::CrossBatch,
        cache: &mut B::Cache,
        scratch: &mut Scratch<B::Rows>,
    ) -> Result<()> {
        let Scratch {
            projected, attended, ..
        } = scratch;
        for (index, block) in self.blocks.iter().enumerate() {
            let bias = &self.bias[index.min(self.bias.len() - 1)];
            backend.project(rows, Some(&block.self_norm), &block.query_key_value, projected)?;
            backend.self_attention(projected, cache, index, step, bias, attended)?;
            backend.project_onto(rows, attended, &block.self_output, None)?;

            backend.project(rows, Some(&block.cross_norm), &block.cross_query, projected)?;
            backend.cross_attention(projected, cross, index, step.rows, attended)?;
            backend.project_onto(rows, attended, &block.cross_output, None)?;

            backend.feed_forward(rows, &block.feed_forward)?;
        }
        Ok(())
    }
}
