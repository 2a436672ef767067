//! The T5 graph: what a model computes, on whatever computes it.
//!
//! Two calls are all that generation needs: [`T5Model::prefill`] reads texts, [`T5Model::step`] decodes one token of any
//! number of rows, which belong to requests of any lengths, ages and numbers of beams.
//!
//! Rules of the architecture: Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>; details as in `modeling_t5.py` of
//! transformers, against which the golden tests compare.

mod backend;
mod cpu;
mod decoder;
mod encoder;
mod load;
mod position;
mod tensors;

use candle_core::Result;

use crate::config::{Architecture, T5Config};
use crate::error;
use crate::generate::MAX_NEW_TOKENS;
use crate::weights::Weights;
pub(crate) use backend::{Backend, Highest, Logits, StepRows};
pub(crate) use cpu::Cpu;
pub(crate) use decoder::Cross;
use decoder::{Decoder, DecoderScratch};
use encoder::{Encoder, EncoderScratch};
pub(crate) use tensors::Tensors;

/// Most tokens of a sequence in the decoder: the start token, the new ones, and drafts that are not yet accepted.
const DECODER_TOKENS: usize = MAX_NEW_TOKENS + 64;

/// A loaded model. It is never changed: any number of threads may use it at the same time.
#[derive(Debug)]
pub(crate) struct T5Model<B: Backend> {
    config: T5Config,
    /// [vocab_size, d_model]
    embedding: B::Embedding,
    encoder: Encoder<B>,
    decoder: Decoder<B>,
    /// The decoder's final normalization.
    norm: B::Norm,
    head: B::Linear,
    parameters: u64,
}

/// A thread's memory for working with a model.
pub(crate) struct Workspace<B: Backend> {
    /// What computes.
    pub(crate) backend: B,
    encoder: EncoderScratch<B::Rows>,
    decoder: DecoderScratch<B::Rows>,
    rows: B::Rows,
}

impl<B: Backend> Workspace<B> {
    /// An empty one.
    pub(crate) fn new(backend: B) -> Self {
        Self {
            backend,
            encoder: EncoderScratch::default(),
            decoder: DecoderScratch::default(),
            rows: B::Rows::default(),
        }
    }
}

/// A text that was read.
pub(crate) struct Prefilled<B: Backend> {
    /// What the decoder reads of it.
    pub(crate) cross: Cross<B>,
    /// Mean of the encoder's states, [d_model].
    pub(crate) embedding: Vec<f32>,
}

impl<B: Backend> T5Model<B> {
    /// Loads the tensors that the configuration asks for. Texts may have up to `max_input_tokens` tokens.
    ///
    /// # Errors
    /// Missing tensors, other shapes or types than expected, values that are not finite.
    pub(crate) fn load(
        backend: &B,
        weights: &Weights,
        config: T5Config,
        max_input_tokens: usize,
    ) -> error::Result<Self> {
        let shape = [config.vocab_size, config.d_model];
        // The embedding has four names in the wild; they are one tensor.
        let names = [
            "shared.weight",
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
        ];
        let name = names
            .into_iter()
            .find(|name| weights.has(name))
            .unwrap_or(names[0]);
        let embedding = weights.get(name, &shape)?;
        let untied = weights.has("lm_head.weight");
        let head = match untied {
            true => weights.get("lm_head.weight", &shape)?,
            false => embedding.clone(),
        };
        let norm = weights.get("decoder.final_layer_norm.weight", &[config.d_model])?;
        Ok(Self {
            encoder: Encoder::load(backend, weights, &config, max_input_tokens)?,
            decoder: Decoder::load(backend, weights, &config, DECODER_TOKENS)?,
            norm: backend.norm(&norm, config.layer_norm_epsilon as f32)?,
            head: backend.linear(&[head])?,
            embedding: backend.embedding(&embedding)?,
            parameters: parameters(&config, untied),
            config,
        })
    }

    /// Shape of the model.
    pub(crate) fn config(&self) -> &T5Config {
        &self.config
    }

    /// Numbers in the model.
    pub(crate) fn parameters(&self) -> u64 {
        self.parameters
    }

    /// A cache for generated tokens.
    pub(crate) fn cache(&self, backend: &B) -> Result<B::Cache> {
        backend.cache(
            self.config.num_decoder_layers,
            self.config.num_heads,
            self.config.d_kv,
        )
    }

    /// Reads texts.
    pub(crate) fn prefill(&self, work: &mut Workspace<B>, inputs: &[&[u32]]) -> Result<Vec<Prefilled<B>>> {
        let lengths: Vec<usize> = inputs.iter().map(|ids| ids.len()).collect();
        self.read(work, inputs, &lengths)?;
        let cross = self
            .decoder
            .cross(&mut work.backend, &work.rows, &lengths, &mut work.decoder)?;
        let means = work.backend.means(&work.rows, &lengths)?;
        let prefilled = cross.into_iter().zip(means);
        Ok(prefilled
            .map(|(cross, embedding)| Prefilled { cross, embedding })
            .collect())
    }

    /// States of one text: [tokens, d_model].
    pub(crate) fn encode(&self, work: &mut Workspace<B>, ids: &[u32]) -> Result<Vec<f32>> {
        self.read(work, &[ids], &[ids.len()])?;
        work.backend.to_host(&work.rows)
    }

    fn read(&self, work: &mut Workspace<B>, inputs: &[&[u32]], lengths: &[usize]) -> Result<()> {
        let Workspace {
            backend,
            encoder,
            rows,
            ..
        } = work;
        self.encoder
            .forward(backend, &self.embedding, &inputs.concat(), lengths, encoder, rows)
    }

    /// One decode step. `take` gets the logits some columns at a time or, if no row needs more than the `highest` ones and
    /// the numbers are far away, only those.
    pub(crate) fn step(
        &self,
        work: &mut Workspace<B>,
        step: StepRows<'_>,
        cross: &B::CrossBatch,
        cache: &mut B::Cache,
        highest: Option<usize>,
        take: &mut dyn FnMut(Logits<'_>),
    ) -> Result<()> {
        let Workspace {
            backend,
            decoder,
            rows,
            ..
        } = work;
        backend.embed(&self.embedding, step.tokens, rows)?;
        self.decoder.step(backend, rows, step, cross, cache, decoder)?;
        let scale = match self.config.scale_output {
            true => (self.config.d_model as f32).powf(-0.5),
            false => 1.0,
        };
        if let Some(count) = highest
            && let Some(found) = backend.highest(rows, &self.norm, scale, &self.head, count)?
        {
            take(Logits::Highest(&found));
            return Ok(());
        }
        let mut columns = |first: usize, block: &[f32]| take(Logits::Columns(first, block));
        backend.logits(rows, &self.norm, scale, &self.head, &mut columns)
    }
}

/// Numbers in a model of this shape.
pub(crate) fn parameters(config: &T5Config, untied: bool) -> u64 {
    let (model, inner, wide) = (config.d_model, config.inner_dim(), config.d_ff);
    let attention = 4 * model * inner + model;
    let feed_forward = (if config.gated { 3 } else { 2 }) * model * wide + model;
    let bias = config.relative_attention_num_buckets * config.num_heads;
    let biases = |layers| {
        if config.architecture == Architecture::Umt5 {
            layers * bias
        } else {
            bias
        }
    };
    let encoder = config.num_layers * (attention + feed_forward) + biases(config.num_layers) + model;
    let decoder = config.num_decoder_layers * (2 * attention + feed_forward)
        + biases(config.num_decoder_layers)
        + model;
    let embeddings = config.vocab_size * model * if untied { 2 } else { 1 };
    (embeddings + encoder + decoder) as u64
}
