//! The T5 graph: an encoder, and a decoder with cross-attention to the encoder's states.
//!
//! Architecture: Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>. Details follow `modeling_t5.py` of
//! transformers, which the golden tests compare with.

mod decoder;
mod encoder;
mod load;
mod position;

use candle_core::Result;

use self::decoder::Decoder;
use self::encoder::Encoder;
use super::backend::{Backend, StepRows};
use super::{Logits, Prefilled, Workspace, take_logits};
use crate::config::T5Config;
use crate::error;
use crate::generate::MAX_NEW_TOKENS;
use crate::weights::Weights;

/// Maximum decoder tokens of a sequence: start token, new tokens, and unverified drafts.
const DECODER_TOKENS: usize = MAX_NEW_TOKENS + 64;

/// A loaded T5. Immutable, so any number of threads can use it at once.
#[derive(Debug)]
pub(crate) struct T5Model<B: Backend> {
    /// `[vocab_size, d_model]`.
    embedding: B::Embedding,
    encoder: Encoder<B>,
    decoder: Decoder<B>,
    /// The decoder's final normalization.
    norm: B::Norm,
    head: B::Linear,
    /// Factor of the decoder's output before the head.
    scale: f32,
}

impl<B: Backend> T5Model<B> {
    /// Loads the tensors that the configuration requires. Texts may have up to `max_input_tokens` tokens.
    ///
    /// # Errors
    /// Missing tensors, unexpected shapes or types, values that are not finite.
    pub(crate) fn load(
        backend: &B,
        weights: &Weights,
        config: &T5Config,
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
            encoder: Encoder::load(backend, weights, config, max_input_tokens)?,
            decoder: Decoder::load(backend, weights, config, DECODER_TOKENS)?,
            norm: backend.norm(&norm, config.layer_norm_epsilon as f32)?,
            head: backend.linear(&[head], None)?,
            embedding: backend.embedding(&embedding)?,
            scale: match config.scale_output {
                true => (config.d_model as f32).powf(-0.5),
                false => 1.0,
            },
        })
    }

    /// Encodes texts.
    pub(crate) fn prefill(&self, work: &mut Workspace<B>, inputs: &[&[u32]]) -> Result<Vec<Prefilled<B>>> {
        let lengths: Vec<usize> = inputs.iter().map(|ids| ids.len()).collect();
        self.read(work, inputs, &lengths)?;
        let cross = self
            .decoder
            .cross(&mut work.backend, &work.rows, &lengths, &mut work.scratch)?;
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
            scratch,
            rows,
        } = work;
        self.encoder
            .forward(backend, &self.embedding, &inputs.concat(), lengths, scratch, rows)
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
            scratch,
            rows,
        } = work;
        backend.embed(&self.embedding, step.tokens, rows)?;
        self.decoder.step(backend, rows, step, cross, cache, scratch)?;
        take_logits(backend, rows, &self.norm, self.scale, &self.head, highest, take)
    }
}
