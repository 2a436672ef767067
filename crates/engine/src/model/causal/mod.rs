//! The graph of decoder-only models: Llama, Mistral, Qwen2, Qwen3 and Gemma 3.
//!
//! The input is part of the sequence. A step reads chunks of prompts beside the rows that decode, in one pass over the
//! weights. Details follow `modeling_llama.py` and its relatives in transformers, which the golden tests compare with.

mod load;

use candle_core::Result;

use super::backend::{Backend, CausalAttention, FeedForward, PromptChunk, StepRows};
use super::{Logits, Scratch, Workspace, take_logits};

/// A loaded decoder-only model.
#[derive(Debug)]
pub(crate) struct CausalModel<B: Backend> {
    /// `[vocab_size, hidden_size]`, multiplied by the model's factor.
    embedding: B::Embedding,
    blocks: Vec<Block<B>>,
    /// The final normalization.
    norm: B::Norm,
    head: B::Linear,
}

#[derive(Debug)]
struct Block<B: Backend> {
    norm: B::Norm,
    /// `[hidden_size → (heads + 2 · kv_heads) · head_dim]`.
    query_key_value: B::Linear,
    attention: CausalAttention<B>,
    output: B::Linear,
    /// Normalizes the attention's result before it is added (Gemma).
    post_norm: Option<B::Norm>,
    feed_forward: FeedForward<B>,
}

impl<B: Backend> CausalModel<B> {
    /// Runs one step. Stores the keys and values of its rows and prompts in the cache, and passes the logits of its
    /// rows to `take`.
    pub(crate) fn step(
        &self,
        work: &mut Workspace<B>,
        step: StepRows<'_>,
        cache: &mut B::Cache,
        highest: Option<usize>,
        take: &mut dyn FnMut(Logits<'_>),
    ) -> Result<()> {
        self.forward(work, step, cache, step.lengths.len())?;
        if step.lengths.is_empty() {
            return Ok(());
        }
        let Workspace { backend, rows, .. } = work;
        take_logits(backend, rows, &self.norm, 1.0, &self.head, highest, take)
    }

    /// Returns the hidden states of one text after the last normalization, `[tokens, hidden_size]`.
    pub(crate) fn encode(
        &self,
        work: &mut Workspace<B>,
        ids: &[u32],
        cache: &mut B::Cache,
    ) -> Result<Vec<f32>> {
        work.backend.reserve(cache, ids.len())?;
        let chunk = PromptChunk {
            slots: (0..ids.len() as u32).collect(),
            count: ids.len(),
        };
        let step = StepRows {
            tokens: ids,
            slots: &[],
            lengths: &[],
            rows: &[],
            prompts: std::slice::from_ref(&chunk),
        };
        self.forward(work, step, cache, ids.len())?;
        let Workspace {
            backend,
            rows,
            scratch,
        } = work;
        backend.normed(rows, &self.norm, &mut scratch.rows)?;
        backend.to_host(&scratch.rows)
    }

    /// Computes the last layer's output of the first `keep` tokens of a step.
    fn forward(
        &self,
        work: &mut Workspace<B>,
        step: StepRows<'_>,
        cache: &mut B::Cache,
        keep: usize,
    ) -> Result<()> {
        let Workspace {
            backend,
            rows,
            scratch,
        } = work;
        let Scratch {
            projected, attended, ..
        } = scratch;
        backend.embed(&self.embedding, step.tokens, rows)?;
        for (index, block) in self.blocks.iter().enumerate() {
            backend.project(rows, Some(&block.norm), &block.query_key_value, projected)?;
            backend.causal_attention(projected, cache, index, step, &block.attention, attended)?;
            if index + 1 == self.blocks.len() && keep < step.tokens.len() {
                // No later layer reads the other tokens' states.
                if keep == 0 {
                    return Ok(());
                }
                backend.truncate(rows, keep)?;
                backend.truncate(attended, keep)?;
            }
            backend.project_onto(rows, attended, &block.output, block.post_norm.as_ref())?;
            backend.feed_forward(rows, &block.feed_forward)?;
        }
        Ok(())
    }
}
