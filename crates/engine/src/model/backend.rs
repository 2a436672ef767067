//! The operations that the model graphs need of a backend.
//!
//! Each graph (`t5/`, `causal/`) is written once, over this trait. [`Cpu`](super::cpu::Cpu) implements it with
//! this crate's kernels on packed weights. [`Tensors`](super::tensors::Tensors) implements it with candle's tensors on
//! any candle device, and is the reference that the kernels are tested against.
//!
//! Operations are as large as a backend may want to fuse them, for example a normalization with the following product,
//! or a whole feed-forward layer. All are ragged: rows of texts of different lengths, or of requests with different
//! numbers of beams, follow one another without padding.

use candle_core::{Result, Tensor};
use candle_nn::Activation;

/// Learned values by distance between query and key.
#[derive(Debug, Clone)]
pub(crate) struct DistanceTable {
    /// `[heads, length]`.
    pub(crate) values: Vec<f32>,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Distances per head.
    pub(crate) length: usize,
    /// Index of distance 0, a key at the query's position. The next key is at the next index.
    pub(crate) center: usize,
}

/// Angles of a rotary position embedding (RoPE).
#[derive(Debug, Clone)]
pub(crate) struct Angles {
    /// `[positions, half]`.
    pub(crate) cos: Vec<f32>,
    /// `[positions, half]`.
    pub(crate) sin: Vec<f32>,
    /// Half the width of a head.
    pub(crate) half: usize,
}

/// Causal self-attention with rotary positions. Several adjacent query heads share a key and value head.
#[derive(Debug)]
pub(crate) struct CausalAttention<B: Backend> {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
    /// Factor of the scores.
    pub(crate) scale: f32,
    /// Number of tokens that a query sees, including its own, or `None` for all.
    pub(crate) window: Option<usize>,
    /// Normalizations of each query and key head.
    pub(crate) query_key_norms: Option<(B::Norm, B::Norm)>,
    /// Shared by layers with the same angles.
    pub(crate) rotation: std::sync::Arc<B::Rotation>,
}

/// A feed-forward layer: `outer(activation(inner(norm(x))))`. Gated if `inner` is two projections side by side.
#[derive(Debug)]
pub(crate) struct FeedForward<B: Backend> {
    pub(crate) norm: B::Norm,
    /// `[d_model → d_ff]`, or `[d_model → 2 · d_ff]`: the activated part, then the gated part.
    pub(crate) inner: B::Linear,
    pub(crate) outer: B::Linear,
    pub(crate) d_ff: usize,
    pub(crate) activation: Activation,
    pub(crate) gated: bool,
    /// Normalizes the result before it is added (Gemma).
    pub(crate) post_norm: Option<B::Norm>,
}

/// Consecutive tokens of a prompt that a step reads into the KV cache. They produce no logits.
#[derive(Debug, Clone)]
pub(crate) struct PromptChunk {
    /// KV cache slots of the prompt so far, ending with those that this chunk fills.
    pub(crate) slots: Vec<u32>,
    /// Number of tokens in the chunk.
    pub(crate) count: usize,
}

/// One decoding step of many sequences.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepRows<'a> {
    /// Last token of each row, then the tokens of all chunks.
    pub(crate) tokens: &'a [u32],
    /// KV cache slots of all rows, one row after the other. Each row lists the slots of its tokens in order, ending
    /// with the slot that this step fills.
    pub(crate) slots: &'a [u32],
    /// Number of slots of each row.
    pub(crate) lengths: &'a [usize],
    /// Rows per request, in the order of the cross batch.
    pub(crate) rows: &'a [usize],
    /// Chunks of prompts, for decoder-only models. Rows may continue a prompt whose last chunk is in the same step.
    pub(crate) prompts: &'a [PromptChunk],
}

impl<'a> StepRows<'a> {
    /// Iterates over the slots of each row.
    pub(crate) fn ancestries(&self) -> impl Iterator<Item = &'a [u32]> + use<'a> {
        let mut rest = self.slots;
        self.lengths.iter().map(move |length| {
            let (own, others) = rest.split_at(*length);
            rest = others;
            own
        })
    }

    /// Iterates over the position and the slot of every token, in the order of `tokens`.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, u32)> + use<'a> {
        let last = |slots: &'a [u32]| Some((slots.len().checked_sub(1)?, *slots.last()?));
        let chunk = |chunk: &'a PromptChunk| {
            let first = chunk.slots.len() - chunk.count;
            (first..).zip(chunk.slots[first..].iter().copied())
        };
        self.ancestries()
            .filter_map(last)
            .chain(self.prompts.iter().flat_map(chunk))
    }
}

/// A compute device with scratch memory, one per compute thread. Weights are shared between threads.
pub(crate) trait Backend: Send + Sized + 'static {
    /// Activations, `[rows, width]`.
    type Rows: Default + Send;
    /// A projection.
    type Linear: Send + Sync + std::fmt::Debug;
    /// Weight of an RMS normalization.
    type Norm: Send + Sync + std::fmt::Debug;
    /// Embedding table.
    type Embedding: Send + Sync + std::fmt::Debug;
    /// A [`DistanceTable`] on the device.
    type Bias: Send + Sync + std::fmt::Debug;
    /// [`Angles`] on the device.
    type Rotation: Send + Sync + std::fmt::Debug;
    /// Cross-attention keys and values of one text in one layer.
    type KeysValues: Send + Sync;
    /// Cross-attention keys and values of a step's texts, in every layer.
    type CrossBatch: Send;
    /// KV cache of a decoder's tokens, in every layer.
    type Cache: Send;

    /// Creates another instance for another thread.
    fn fork(&self) -> Self;
    /// Returns the device name: `cpu`, `cuda` or `metal`.
    fn device(&self) -> &'static str;
    /// Returns the number format: `f32`, `bf16`, `f16` or `int8`.
    fn precision(&self) -> &'static str;

    /// Loads weights of `[outputs, inputs]` each, f32 on the CPU, as one projection with all outputs side by side, and
    /// optionally a bias, `[all outputs]`.
    fn linear(&self, parts: &[Tensor], bias: Option<&Tensor>) -> Result<Self::Linear>;
    /// Loads a normalization weight, `[d_model]`.
    fn norm(&self, weight: &Tensor, epsilon: f32) -> Result<Self::Norm>;
    /// Loads an embedding table, `[vocab_size, d_model]`.
    fn embedding(&self, table: &Tensor) -> Result<Self::Embedding>;
    /// Loads a position bias.
    fn bias(&self, table: DistanceTable) -> Result<Self::Bias>;
    /// Loads the angles of rotary positions.
    fn rotation(&self, angles: Angles) -> Result<Self::Rotation>;
    /// Creates an empty cache.
    fn cache(&self, layers: usize, heads: usize, d_kv: usize) -> Result<Self::Cache>;
    /// Grows the cache to this many slots.
    fn reserve(&mut self, cache: &mut Self::Cache, slots: usize) -> Result<()>;

    /// Looks up embeddings: `[ids, d_model]`.
    fn embed(&mut self, table: &Self::Embedding, ids: &[u32], out: &mut Self::Rows) -> Result<()>;
    /// Computes norm(rows).
    fn normed(&mut self, rows: &Self::Rows, norm: &Self::Norm, out: &mut Self::Rows) -> Result<()>;
    /// Computes linear(norm(rows)).
    fn project(
        &mut self,
        rows: &Self::Rows,
        norm: Option<&Self::Norm>,
        linear: &Self::Linear,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Computes `rows += linear(input)`, or `rows += norm(linear(input))`.
    fn project_onto(
        &mut self,
        rows: &mut Self::Rows,
        input: &Self::Rows,
        linear: &Self::Linear,
        norm: Option<&Self::Norm>,
    ) -> Result<()>;
    /// Drops all rows but the first `count`.
    fn truncate(&mut self, rows: &mut Self::Rows, count: usize) -> Result<()>;
    /// Computes `rows += feed_forward(rows)`.
    fn feed_forward(&mut self, rows: &mut Self::Rows, layer: &FeedForward<Self>) -> Result<()>;
    /// Computes the self-attention of every text. `qkv` is `[tokens of all texts, 3 · heads · d_kv]`.
    fn encoder_attention(
        &mut self,
        qkv: &Self::Rows,
        lengths: &[usize],
        heads: usize,
        bias: &Self::Bias,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Splits `[tokens of all texts, 2 · heads · d_kv]` into the cross-attention keys and values of each text.
    fn keys_values(
        &mut self,
        kv: &Self::Rows,
        lengths: &[usize],
        heads: usize,
    ) -> Result<Vec<Self::KeysValues>>;
    /// Combines the texts of a step. `texts` holds the layers of each.
    fn cross_batch(&mut self, texts: Vec<std::sync::Arc<Vec<Self::KeysValues>>>) -> Result<Self::CrossBatch>;
    /// Computes the attention of each request's rows to its text. `queries` is `[rows of all requests, heads · d_kv]`.
    fn cross_attention(
        &mut self,
        queries: &Self::Rows,
        batch: &Self::CrossBatch,
        layer: usize,
        rows: &[usize],
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Stores the keys and values of every row's last token, then computes every row's attention to its tokens so far.
    /// `qkv` is `[rows, 3 · heads · d_kv]`. Rows may share slots.
    fn self_attention(
        &mut self,
        qkv: &Self::Rows,
        cache: &mut Self::Cache,
        layer: usize,
        step: StepRows<'_>,
        bias: &Self::Bias,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Normalizes and rotates the queries and keys of every row, stores keys and values, then computes every row's
    /// attention to its tokens so far. `qkv` is `[tokens, (heads + 2 · kv_heads) · width]`.
    fn causal_attention(
        &mut self,
        qkv: &mut Self::Rows,
        cache: &mut Self::Cache,
        layer: usize,
        step: StepRows<'_>,
        attention: &CausalAttention<Self>,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Computes the logits of norm(rows) · scale, in blocks of columns that stay in the processor's cache. Calls `take`
    /// with the first column and `[rows, columns]`.
    fn logits(
        &mut self,
        rows: &Self::Rows,
        norm: &Self::Norm,
        scale: f32,
        head: &Self::Linear,
        take: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()>;
    /// Replaces [`Backend::logits`] where transfers to the host are expensive. Returns per row the log-sum-exp and at
    /// least the `count` highest logits with their ids, or `None` if transferring all logits is as good.
    fn highest(
        &mut self,
        _rows: &Self::Rows,
        _norm: &Self::Norm,
        _scale: f32,
        _head: &Self::Linear,
        _count: usize,
    ) -> Result<Option<Vec<Highest>>> {
        Ok(None)
    }
    /// Copies the values to the host, row after row.
    fn to_host(&mut self, rows: &Self::Rows) -> Result<Vec<f32>>;
    /// Returns the mean of each text's rows, on the host. `rows` contains all texts, one after the other.
    fn means(&mut self, rows: &Self::Rows, lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
        let values = self.to_host(rows)?;
        let width = values.len() / lengths.iter().sum::<usize>().max(1);
        let mut rest = values.as_slice();
        let mean = |length: &usize| {
            let (own, others) = rest.split_at(length * width);
            rest = others;
            mean(own, width)
        };
        Ok(lengths.iter().map(mean).collect())
    }
}

/// A row's reduced logits.
#[derive(Debug, Clone)]
pub(crate) struct Highest {
    /// ln Σ exp(logit) over the vocabulary.
    pub(crate) log_sum_exp: f32,
    /// The highest logits with their ids, in any order.
    pub(crate) logits: Vec<(f32, u32)>,
}

/// Logits of a step, as a backend delivers them.
#[derive(Debug)]
pub(crate) enum Logits<'a> {
    /// A block of columns of all rows: the first column, and `[rows, columns]`.
    Columns(usize, &'a [f32]),
    /// The reduced logits of all rows.
    Highest(&'a [Highest]),
}

/// Returns the mean of rows of this width.
fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut mean = vec![0f32; width];
    for row in rows.chunks_exact(width.max(1)) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let count = (rows.len() / width.max(1)).max(1) as f32;
    mean.iter_mut().for_each(|sum| *sum /= count);
    mean
}
