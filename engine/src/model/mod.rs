//! The T5 graph on candle tensors.
//!
//! Linear layers work on rows, [rows, width]: in the encoder a row is a token of the (padded) batch, in the decoder it
//! is one beam of one request. What generation needs of a model is three calls: [`T5Model::prefill`] encodes a batch and
//! fills the cross-attention caches, [`T5Model::step`] decodes one token per row, and
//! [`DecoderState::select`] moves and drops rows between steps.
//!
//! Rules of the architecture: Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>; details as in `modeling_t5.py` of
//! transformers, against which the golden tests compare.

mod decoder;
mod encoder;
mod layers;
mod position;
mod product;
mod state;

use candle_core::{DType, Device, Result, Tensor};

use crate::config::T5Config;
use crate::error;
use crate::weights::Weights;
use decoder::Decoder;
use encoder::{Encoder, padding_mask};
use layers::Linear;
use state::CrossCache;
pub(crate) use state::DecoderState;

/// Tokens, with padding, that the encoder takes at once on the CPU, where a longer product is no faster and padding
/// costs time.
const CPU_ENCODER_TOKENS: usize = 512;
/// The same on a GPU.
const GPU_ENCODER_TOKENS: usize = 16_384;

/// A loaded model. It is never changed: any number of batches may use it at the same time.
#[derive(Debug)]
pub(crate) struct T5Model {
    config: T5Config,
    /// [vocab_size, d_model]
    embedding: Tensor,
    encoder: Encoder,
    decoder: Decoder,
    head: Linear,
    device: Device,
    dtype: DType,
    parameters: u64,
}

/// The result of [`T5Model::prefill`].
#[derive(Debug)]
pub(crate) struct Prefill {
    /// Ready for the first step.
    pub(crate) state: DecoderState,
    /// Share of what the encoder computed that was padding, 0 to 1.
    pub(crate) padding_ratio: f64,
}

impl T5Model {
    /// Loads the tensors that the configuration asks for.
    ///
    /// # Errors
    /// Missing tensors, other shapes or types than expected, values that are not finite.
    pub(crate) fn load(
        weights: &Weights,
        config: T5Config,
        device: Device,
        dtype: DType,
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
        Ok(Self {
            encoder: Encoder::load(weights, &config)?,
            decoder: Decoder::load(weights, &config)?,
            head: Linear::new(&head)?,
            embedding,
            device,
            dtype,
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

    /// Where it runs.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// What it computes in.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Encodes the inputs and fills the cross-attention caches; `beams` is the number of decoder rows of each input.
    pub(crate) fn prefill(&self, inputs: &[&[u32]], beams: &[usize]) -> Result<Prefill> {
        let longest = inputs.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(inputs[*index].len()));
        let mut chunks = Vec::new();
        let (mut computed, mut real) = (0, 0);
        let mut rest = order.as_slice();
        while let Some(first) = rest.first() {
            let tokens = inputs[*first].len();
            let (chunk, others) = rest.split_at(self.encoder_rows(tokens).min(rest.len()));
            let ids: Vec<&[u32]> = chunk.iter().map(|index| inputs[*index]).collect();
            let states = self.encode(&ids)?;
            let layers = self.decoder.cross_keys_values(&states, ids.len())?;
            // Chunks of shorter inputs are padded to the longest of all.
            let pad = |tensor: Tensor| tensor.pad_with_zeros(2, 0, longest - tokens);
            let pad_both = |(key, value)| Ok((pad(key)?, pad(value)?));
            chunks.push(layers.into_iter().map(pad_both).collect::<Result<Vec<_>>>()?);
            computed += tokens * ids.len();
            real += ids.iter().map(|ids| ids.len()).sum::<usize>();
            rest = others;
        }
        // Back to the order of the inputs: `place[i]` is where input `i` stands in `order`.
        let mut place = vec![0u32; inputs.len()];
        for (position, index) in (0..).zip(&order) {
            place[*index] = position;
        }
        let place = Tensor::from_vec(place, inputs.len(), &self.device)?;
        let gather = |tensors: Vec<&Tensor>| Tensor::cat(&tensors, 0)?.index_select(&place, 0);
        let layer = |index: usize| {
            let keys = gather(
                chunks
                    .iter()
                    .map(|chunk: &Vec<(Tensor, Tensor)>| &chunk[index].0)
                    .collect(),
            )?;
            let values = gather(chunks.iter().map(|chunk| &chunk[index].1).collect())?;
            Ok((keys, values))
        };
        let layers = (0..self.config.num_decoder_layers)
            .map(layer)
            .collect::<Result<Vec<_>>>()?;
        let lengths = inputs.iter().map(|ids| ids.len()).collect();
        let cross = CrossCache::new(layers, lengths, beams, self.dtype, &self.device)?;
        let state = DecoderState::new(&self.config, cross, self.dtype, &self.device)?;
        Ok(Prefill {
            state,
            padding_ratio: 1.0 - real as f64 / computed.max(1) as f64,
        })
    }

    fn encoder_rows(&self, tokens: usize) -> usize {
        let most = if self.device.is_cpu() {
            CPU_ENCODER_TOKENS
        } else {
            GPU_ENCODER_TOKENS
        };
        (most / tokens.max(1)).max(1)
    }

    /// States of inputs, padded to the longest of them: [inputs · tokens, d_model].
    pub(crate) fn encode(&self, inputs: &[&[u32]]) -> Result<Tensor> {
        let tokens = inputs.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut ids = vec![self.config.pad_token_id; inputs.len() * tokens];
        for (row, input) in ids.chunks_mut(tokens).zip(inputs) {
            row[..input.len()].copy_from_slice(input);
        }
        let lengths: Vec<usize> = inputs.iter().map(|ids| ids.len()).collect();
        let mask = padding_mask(&lengths, tokens, self.dtype, &self.device)?;
        self.encoder
            .forward(&self.embed(&ids)?, inputs.len(), mask.as_ref())
    }

    /// One decode step: the last token of every row in, the logits of the next out, [rows, vocab_size] in row order,
    /// f32 on the host.
    pub(crate) fn step(&self, last: &[u32], state: &mut DecoderState) -> Result<Vec<f32>> {
        let mut rows = self.decoder.step(&self.embed(last)?, state)?;
        if self.config.scale_output {
            rows = (rows * (self.config.d_model as f64).powf(-0.5))?;
        }
        self.head
            .forward(&rows)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1()
    }

    /// [ids, d_model]
    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.embedding
            .index_select(&Tensor::from_slice(ids, ids.len(), &self.device)?, 0)
    }
}

/// Numbers in a model of this shape.
fn parameters(config: &T5Config, untied: bool) -> u64 {
    let (model, inner, wide) = (config.d_model, config.inner_dim(), config.d_ff);
    let attention = 4 * model * inner + model;
    let feed_forward = (if config.gated { 3 } else { 2 }) * model * wide + model;
    let bias = config.relative_attention_num_buckets * config.num_heads;
    let biases = |layers| {
        if config.architecture == crate::config::Architecture::Umt5 {
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
