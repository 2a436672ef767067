//! What the T5 graph asks of whatever computes it.
//!
//! The graph (`encoder.rs`, `decoder.rs`) is written once, over this trait. [`Cpu`](super::cpu::Cpu) computes it with
//! our own kernels on prepacked weights; [`Tensors`](super::tensors::Tensors) with candle's tensors, on any device of
//! candle's, and is the reference that the kernels are tested against.
//!
//! Operations are as large as a back end may want to fuse them (a normalization with the product behind it, a whole
//! feed-forward layer), and all of them are ragged: rows of texts of different lengths, or of requests with different
//! numbers of beams, stand one after the other without padding.

use candle_core::{Result, Tensor};
use candle_nn::Activation;

/// Learned numbers by distance between query and key.
#[derive(Debug, Clone)]
pub(crate) struct DistanceTable {
    /// [heads, length]
    pub(crate) values: Vec<f32>,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Distances of a head.
    pub(crate) length: usize,
    /// Place of distance 0 (key at the query's own position); a key one further on is at the next place.
    pub(crate) center: usize,
}

/// A feed-forward layer: `outer(activation(inner(norm(x))))`, gated where `inner` is two projections side by side.
#[derive(Debug)]
pub(crate) struct FeedForward<B: Backend> {
    pub(crate) norm: B::Norm,
    /// [d_model → d_ff], or [d_model → 2 · d_ff]: what is activated, then what it gates.
    pub(crate) inner: B::Linear,
    pub(crate) outer: B::Linear,
    pub(crate) d_ff: usize,
    pub(crate) activation: Activation,
    pub(crate) gated: bool,
}

/// One decode step of many sequences.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepRows<'a> {
    /// Last token of each row.
    pub(crate) tokens: &'a [u32],
    /// Cache slots of all rows, one after the other: of each row the slots of its tokens so far, in order, the last
    /// one that of its last token, which this step fills.
    pub(crate) slots: &'a [u32],
    /// Number of slots of each row.
    pub(crate) lengths: &'a [usize],
    /// Rows of each request, in the order of the cross batch.
    pub(crate) rows: &'a [usize],
}

impl<'a> StepRows<'a> {
    /// The slots of each row.
    pub(crate) fn ancestries(&self) -> impl Iterator<Item = &'a [u32]> + use<'a> {
        let mut rest = self.slots;
        self.lengths.iter().map(move |length| {
            let (own, others) = rest.split_at(*length);
            rest = others;
            own
        })
    }
}

/// A place to compute, with its scratch memory: one for each thread that computes. Weights are shared between them.
pub(crate) trait Backend: Send + Sized + 'static {
    /// Activations, [rows, width].
    type Rows: Default + Send;
    /// A projection without bias.
    type Linear: Send + Sync + std::fmt::Debug;
    /// The weight of an RMS normalization.
    type Norm: Send + Sync + std::fmt::Debug;
    /// A vector for each token id.
    type Embedding: Send + Sync + std::fmt::Debug;
    /// A [`DistanceTable`].
    type Bias: Send + Sync + std::fmt::Debug;
    /// Keys and values of one text in one layer.
    type KeysValues: Send + Sync;
    /// Keys and values of the texts of a step, in every layer.
    type CrossBatch: Send;
    /// Keys and values of generated tokens, in every layer.
    type Cache: Send;

    /// Another one for another thread.
    fn fork(&self) -> Self;
    /// Name of the device: `cpu`, `cuda`, `metal`.
    fn device(&self) -> &'static str;
    /// What it computes in: `f32`, `bf16`, `f16`, `int8`.
    fn precision(&self) -> &'static str;

    /// Takes weights of [outputs, inputs] each, f32 on the CPU, as one projection of all outputs side by side.
    fn linear(&self, parts: &[Tensor]) -> Result<Self::Linear>;
    /// Takes a weight of [d_model].
    fn norm(&self, weight: &Tensor, epsilon: f32) -> Result<Self::Norm>;
    /// Takes a table of [vocab_size, d_model].
    fn embedding(&self, table: &Tensor) -> Result<Self::Embedding>;
    /// Takes a position bias.
    fn bias(&self, table: DistanceTable) -> Result<Self::Bias>;
    /// An empty cache.
    fn cache(&self, layers: usize, heads: usize, d_kv: usize) -> Result<Self::Cache>;
    /// Makes room for this many slots in all.
    fn reserve(&mut self, cache: &mut Self::Cache, slots: usize) -> Result<()>;

    /// [ids, d_model]
    fn embed(&mut self, table: &Self::Embedding, ids: &[u32], out: &mut Self::Rows) -> Result<()>;
    /// `rows` → norm(rows).
    fn normed(&mut self, rows: &Self::Rows, norm: &Self::Norm, out: &mut Self::Rows) -> Result<()>;
    /// `rows` → linear(norm(rows)).
    fn project(
        &mut self,
        rows: &Self::Rows,
        norm: Option<&Self::Norm>,
        linear: &Self::Linear,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// `rows += linear(input)`.
    fn project_onto(
        &mut self,
        rows: &mut Self::Rows,
        input: &Self::Rows,
        linear: &Self::Linear,
    ) -> Result<()>;
    /// `rows += feed_forward(rows)`.
    fn feed_forward(&mut self, rows: &mut Self::Rows, layer: &FeedForward<Self>) -> Result<()>;
    /// Attention of every text to itself. `qkv` is [tokens of all texts, 3 · heads · d_kv].
    fn encoder_attention(
        &mut self,
        qkv: &Self::Rows,
        lengths: &[usize],
        heads: usize,
        bias: &Self::Bias,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Splits [tokens of all texts, 2 · heads · d_kv] into what cross-attention reads of each text.
    fn keys_values(
        &mut self,
        kv: &Self::Rows,
        lengths: &[usize],
        heads: usize,
    ) -> Result<Vec<Self::KeysValues>>;
    /// Puts the texts of a step together; `texts` holds the layers of each.
    fn cross_batch(&mut self, texts: Vec<std::sync::Arc<Vec<Self::KeysValues>>>) -> Result<Self::CrossBatch>;
    /// Attention of the rows of each request to its text. `queries` is [rows of all requests, heads · d_kv].
    fn cross_attention(
        &mut self,
        queries: &Self::Rows,
        batch: &Self::CrossBatch,
        layer: usize,
        rows: &[usize],
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Stores the last token's keys and values of every row, then lets every row attend to its tokens so far. `qkv` is
    /// [rows, 3 · heads · d_kv]. Rows may stand in each other's past.
    fn self_attention(
        &mut self,
        qkv: &Self::Rows,
        cache: &mut Self::Cache,
        layer: usize,
        step: StepRows<'_>,
        bias: &Self::Bias,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Logits of norm(rows) · scale, some columns at a time while they are in the cache of the processor: `take` gets
    /// the first column and [rows, columns].
    fn logits(
        &mut self,
        rows: &Self::Rows,
        norm: &Self::Norm,
        scale: f32,
        head: &Self::Linear,
        take: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()>;
    /// Instead of [`Backend::logits`], where numbers are far from the host: of each row the logarithm of the sum of all
    /// exponentials and at least the `count` highest logits with their ids. Nothing if all logits may as well be taken.
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
    /// The numbers on the host, row after row.
    fn to_host(&mut self, rows: &Self::Rows) -> Result<Vec<f32>>;
    /// The mean of each text's rows, on the host. `rows` are those of all texts, one after the other.
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

/// What is looked at of a row's logits, where not all of them come to the host.
#[derive(Debug, Clone)]
pub(crate) struct Highest {
    /// ln Σ exp(logit) over the whole vocabulary.
    pub(crate) log_sum_exp: f32,
    /// The highest logits with their ids, in no order that counts.
    pub(crate) logits: Vec<(f32, u32)>,
}

/// Logits of a step, as they come.
#[derive(Debug)]
pub(crate) enum Logits<'a> {
    /// Some columns of all rows: the first column, and [rows, columns].
    Columns(usize, &'a [f32]),
    /// All that there will be, by row.
    Highest(&'a [Highest]),
}

/// Mean of rows of this width.
fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut mean = vec![0f32; width];
    for row in rows.chunks_exact(width.max(1)) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let count = (rows.len() / width.max(1)).max(1) as f32;
    mean.iter_mut().for_each(|sum| *sum /= count);
    mean
}
