//! The model graphs, independent of the backend.
//!
//! The scheduler sees a [`Model`] only. Every model is a decoder that continues sequences of tokens: [`Model::step`]
//! decodes one token for any number of rows, which may belong to requests of any length, age and number of beams. What
//! the sequence begins with depends on the architecture:
//!
//! * An encoder-decoder (`t5/`) first reads the text with [`Model::prefill`], and its sequence begins with a start
//!   token.
//! * A decoder-only model (`causal/`) has the text in the sequence itself. Steps read it in chunks
//!   ([`StepRows::prompts`]) beside the rows of other requests.

mod backend;
mod causal;
mod cpu;
mod t5;
mod tensors;

use std::sync::Arc;

use candle_core::Result;

use self::causal::CausalModel;
use self::t5::T5Model;
use crate::config::ModelConfig;
use crate::error;
use crate::weights::Weights;
pub(crate) use backend::{Angles, Backend, Highest, Logits, PromptChunk, StepRows};
pub(crate) use cpu::Cpu;
pub(crate) use tensors::Tensors;

/// A loaded model. Immutable, so any number of threads can use it at once.
#[derive(Debug)]
pub(crate) struct Model<B: Backend> {
    config: ModelConfig,
    graph: Graph<B>,
}

#[derive(Debug)]
enum Graph<B: Backend> {
    T5(T5Model<B>),
    Causal(CausalModel<B>),
}

/// A thread's scratch memory for a model.
pub(crate) struct Workspace<B: Backend> {
    /// The backend.
    pub(crate) backend: B,
    scratch: Scratch<B::Rows>,
    rows: B::Rows,
}

/// Scratch memory of a pass through the layers.
#[derive(Debug, Default)]
struct Scratch<R> {
    rows: R,
    projected: R,
    attended: R,
}

impl<B: Backend> Workspace<B> {
    /// Creates empty scratch memory.
    pub(crate) fn new(backend: B) -> Self {
        Self {
            backend,
            scratch: Scratch::default(),
            rows: B::Rows::default(),
        }
    }
}

/// Cross-attention keys and values of one text, by decoder layer. Computed once per text and shared by the beams of its
/// request and by other requests for the same text.
pub(crate) type Cross<B> = Arc<Vec<<B as Backend>::KeysValues>>;

/// A text that an encoder has read.
pub(crate) struct Prefilled<B: Backend> {
    /// Its cross-attention keys and values.
    pub(crate) cross: Cross<B>,
    /// Mean of the encoder's states, `[d_model]`.
    pub(crate) embedding: Vec<f32>,
}

impl<B: Backend> Prefilled<B> {
    /// Returns what a model without an encoder knows of a text before decoding: nothing.
    pub(crate) fn nothing() -> Self {
        Self {
            cross: Arc::default(),
            embedding: Vec::new(),
        }
    }
}

impl<B: Backend> Model<B> {
    /// Loads the tensors that the configuration requires. Texts may have up to `max_input_tokens` tokens.
    ///
    /// # Errors
    /// Missing tensors, unexpected shapes or types, values that are not finite.
    pub(crate) fn load(
        backend: &B,
        weights: &Weights,
        config: ModelConfig,
        max_input_tokens: usize,
    ) -> error::Result<Self> {
        let graph = match &config {
            ModelConfig::T5(config) => Graph::T5(T5Model::load(backend, weights, config, max_input_tokens)?),
            ModelConfig::Causal(config) => {
                Graph::Causal(CausalModel::load(backend, weights, config, max_input_tokens)?)
            }
        };
        Ok(Self { config, graph })
    }

    /// Returns the model's shape.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Creates a KV cache.
    pub(crate) fn cache(&self, backend: &B) -> Result<B::Cache> {
        let shape = self.config.cache_shape();
        backend.cache(shape.layers, shape.heads, shape.width)
    }

    /// Reads texts with the encoder. A decoder-only model reads nothing here.
    pub(crate) fn prefill(&self, work: &mut Workspace<B>, inputs: &[&[u32]]) -> Result<Vec<Prefilled<B>>> {
        match &self.graph {
            Graph::T5(model) => model.prefill(work, inputs),
            Graph::Causal(_) => Ok(inputs.iter().map(|_| Prefilled::nothing()).collect()),
        }
    }

    /// Returns the hidden states of one text after the last normalization, `[tokens, width]`: those of the encoder, or
    /// of a decoder-only model.
    pub(crate) fn encode(&self, work: &mut Workspace<B>, ids: &[u32]) -> Result<Vec<f32>> {
        match &self.graph {
            Graph::T5(model) => model.encode(work, ids),
            Graph::Causal(model) => {
                let mut cache = self.cache(&work.backend)?;
                model.encode(work, ids, &mut cache)
            }
        }
    }

    /// Returns the first tokens of a request's sequence: the start token, or the whole input of a decoder-only model.
    pub(crate) fn prompt<'a>(&self, ids: &'a [u32], start: &'a u32) -> &'a [u32] {
        match &self.graph {
            Graph::T5(_) => std::slice::from_ref(start),
            Graph::Causal(_) => ids,
        }
    }

    /// Runs one decoding step. `take` receives the logits of the rows in blocks of columns, or only the `highest` ones
    /// if no row needs more and transfers are expensive. A step without rows only reads prompts.
    pub(crate) fn step(
        &self,
        work: &mut Workspace<B>,
        step: StepRows<'_>,
        cross: &B::CrossBatch,
        cache: &mut B::Cache,
        highest: Option<usize>,
        take: &mut dyn FnMut(Logits<'_>),
    ) -> Result<()> {
        match &self.graph {
            Graph::T5(model) => model.step(work, step, cross, cache, highest, take),
            Graph::Causal(model) => model.step(work, step, cache, highest, take),
        }
    }

    /// Computes the logits of the first generated token, in one step.
    pub(crate) fn first_step(
        &self,
        work: &mut Workspace<B>,
        ids: &[u32],
        start: u32,
        take: &mut dyn FnMut(Logits<'_>),
    ) -> Result<()> {
        let texts = self.prefill(work, &[ids])?;
        let cross = texts.iter().map(|text| text.cross.clone()).collect();
        let cross = work.backend.cross_batch(cross)?;
        let prompt = self.prompt(ids, &start);
        let slots: Vec<u32> = (0..prompt.len() as u32).collect();
        let mut cache = self.cache(&work.backend)?;
        work.backend.reserve(&mut cache, slots.len())?;
        let Some((last, read)) = prompt.split_last() else {
            candle_core::bail!("an empty prompt");
        };
        let chunk = PromptChunk {
            slots: slots[..read.len()].to_vec(),
            count: read.len(),
        };
        let step = StepRows {
            tokens: &[&[*last][..], read].concat(),
            slots: &slots,
            lengths: &[slots.len()],
            rows: &[1],
            prompts: if read.is_empty() {
                &[]
            } else {
                std::slice::from_ref(&chunk)
            },
        };
        self.step(work, step, &cross, &mut cache, None, take)
    }
}

/// Passes the logits of norm(rows) · scale to `take`.
fn take_logits<B: Backend>(
    backend: &mut B,
    rows: &B::Rows,
    norm: &B::Norm,
    scale: f32,
    head: &B::Linear,
    highest: Option<usize>,
    take: &mut dyn FnMut(Logits<'_>),
) -> Result<()> {
    if let Some(count) = highest
        && let Some(found) = backend.highest(rows, norm, scale, head, count)?
    {
        take(Logits::Highest(&found));
        return Ok(());
    }
    let mut columns = |first: usize, block: &[f32]| take(Logits::Columns(first, block));
    backend.logits(rows, norm, scale, head, &mut columns)
}
