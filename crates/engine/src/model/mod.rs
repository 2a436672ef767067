//! The T5 graph, independent of the backend.
//!
//! Generation needs two calls: [`T5Model::prefill`] encodes texts, and [`T5Model::step`] decodes one token for any
//! number of rows. The rows may belong to requests of any length, age and number of beams.
//!
//! Architecture: Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>. Details follow `modeling_t5.py` of
//! transformers, which the golden tests compare with.

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

/// Maximum decoder tokens of a sequence: start token, new tokens, and unverified drafts.
const DECODER_TOKENS: usize = MAX_NEW_TOKENS + 64;

/// A loaded model. Immutable, so any number of threads can use it at once.
#[derive(Debug)]
pub(crate) struct T5Model<B: Backend> {
    config: T5Config,
    /// `[vocab_size, d_model]`.
    embedding: B::Embedding,
    encoder: Encoder<B>,
    decoder: Decoder<B>,
    /// The decoder's final normalization.
    norm: B::Norm,
    head: B::Linear,
    parameters: u64,
}

/// A thread's scratch memory for a model.
pub(crate) struct Workspace<B: Backend> {
    /// The backend.
    pub(crate) backend: B,
    encoder: EncoderScratch<B::Rows>,
    decoder: DecoderScratch<B::Rows>,
    rows: B::Rows,
}

impl<B: Backend> Workspace<B> {
    /// Creates empty scratch memory.
    pub(crate) fn new(backend: B) -> Self {
        Self {
            backend,
            encoder: EncoderScratch::default(),
            decoder: DecoderScratch::default(),
            rows: B::Rows::default(),
        }
    }
}

/// An encoded text.
pub(crate) struct Prefilled<B: Backend> {
    /// Its cross-attention keys and values.
    pub(crate) cross: Cross<B>,
    /// Mean of the encoder's states, `[d_model]`.
    pub(crate) embedding: Vec<f32>,
}

impl<B: Backend> T5Model<B> {
    /// Loads the tensors that the configuration requires. Texts may have up to `max_input_tokens` tokens.
    ///
    /// # Errors
    /// Missing tensors, unexpected shapes or types, values that are not finite.
    pub(crate) fn load(
        backend: &B,
        weights: &Weights,
        config: T5Config,
        max_input_tokens: usize,
    ) -> error::Result<Self> {
        let shape = [config.vocab_size, config.d_model];
        // Checkpoints use four names for the same embedding tensor.
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

    /// Returns the model's shape.
    pub(crate) fn config(&self) -> &T5Config {
        &self.config
    }

    /// Returns the number of parameters.
    pub(crate) fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Creates a KV cache for generated tokens.
    pub(crate) fn cache(&self, backend: &B) -> Result<B::Cache> {
        backend.cache(
            self.config.num_decoder_layers,
            self.config.num_heads,
            self.config.d_kv,
        )
    }

    /// Encodes texts.
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

    /// Returns the hidden states of one text, `[tokens, d_model]`.
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

    /// Runs one decoding step. `take` receives the logits in blocks of columns, or only the `highest` ones if no row
    /// needs more and transfers are expensive.
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

/// Returns the number of parameters of a model of this shape.
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
