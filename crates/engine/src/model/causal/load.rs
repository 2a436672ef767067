//! Loads a decoder-only model by its checkpoint names.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Block, CausalModel};
use crate::config::{CausalConfig, LayerConfig};
use crate::error::Result;
use crate::generate::MAX_NEW_TOKENS;
use crate::model::backend::{Backend, CausalAttention, FeedForward};
use crate::weights::Weights;

/// Positions beyond the input limit: new tokens, and unverified drafts.
const MORE_POSITIONS: usize = MAX_NEW_TOKENS + 64;

impl<B: Backend> CausalModel<B> {
    /// Loads the tensors that the configuration requires. Texts may have up to `max_input_tokens` tokens.
    ///
    /// # Errors
    /// Missing tensors, unexpected shapes or types, values that are not finite.
    pub(crate) fn load(
        backend: &B,
        weights: &Weights,
        config: &CausalConfig,
        max_input_tokens: usize,
    ) -> Result<Self> {
        let loader = Loader {
            backend,
            weights,
            config,
            prefix: prefix(weights),
        };
        let shape = [config.vocab_size, config.hidden_size];
        let embedding = weights.get(&format!("{}embed_tokens.weight", loader.prefix), &shape)?;
        let head = match config.tied {
            true => embedding.clone(),
            false => weights.get("lm_head.weight", &shape)?,
        };
        let head = backend.linear(&[head], None)?;
        let embedding = match config.gemma {
            true => (embedding * (config.hidden_size as f64).sqrt())?,
            false => embedding,
        };
        let rotations: Vec<Arc<B::Rotation>> = config
            .ropes
            .iter()
            .map(|rope| {
                let angles = rope.angles(config.head_dim, max_input_tokens + MORE_POSITIONS);
                backend.rotation(angles).map(Arc::new)
            })
            .collect::<candle_core::Result<_>>()?;
        let blocks: Result<Vec<_>> = config
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| loader.block(index, *layer, &rotations))
            .collect();
        Ok(Self {
            embedding: backend.embedding(&embedding)?,
            blocks: blocks?,
            norm: loader.norm("norm", config.hidden_size)?,
            head,
        })
    }
}

/// Returns what the names of the layers begin with. Models that also see images nest them.
fn prefix(weights: &Weights) -> &'static str {
    let prefixes = ["model.", "language_model.model.", "model.language_model."];
    let has = |prefix: &&str| weights.has(&format!("{prefix}embed_tokens.weight"));
    prefixes.into_iter().find(has).unwrap_or(prefixes[0])
}

struct Loader<'a, B: Backend> {
    backend: &'a B,
    weights: &'a Weights,
    config: &'a CausalConfig,
    prefix: &'static str,
}

impl<B: Backend> Loader<'_, B> {
    fn block(&self, index: usize, layer: LayerConfig, rotations: &[Arc<B::Rotation>]) -> Result<Block<B>> {
        let config = self.config;
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let (inner, kv_inner) = (
            config.num_attention_heads * head_dim,
            config.num_key_value_heads * head_dim,
        );
        let name = |part: &str| format!("layers.{index}.{part}");
        let qkv = [("q_proj", inner), ("k_proj", kv_inner), ("v_proj", kv_inner)]
            .map(|(part, outputs)| (name(&format!("self_attn.{part}")), outputs));
        let (before, after) = match config.gemma {
            true => ("pre_feedforward_layernorm", Some("post_feedforward_layernorm")),
            false => ("post_attention_layernorm", None),
        };
        let norm = |part: &str| self.norm(&name(part), hidden);
        let inner_parts =
            ["gate_proj", "up_proj"].map(|part| (name(&format!("mlp.{part}")), config.intermediate_size));
        Ok(Block {
            norm: norm("input_layernorm")?,
            query_key_value: self.linear(&qkv, hidden, config.qkv_bias)?,
            attention: CausalAttention {
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                width: head_dim,
                scale: config.scale as f32,
                window: layer.window,
                query_key_norms: match config.query_key_norms {
                    true => Some((
                        self.norm(&name("self_attn.q_norm"), head_dim)?,
                        self.norm(&name("self_attn.k_norm"), head_dim)?,
                    )),
                    false => None,
                },
                rotation: rotations[layer.rope].clone(),
            },
            output: self.linear(&[(name("self_attn.o_proj"), hidden)], inner, config.output_bias)?,
            post_norm: match config.gemma {
                true => Some(norm("post_attention_layernorm")?),
                false => None,
            },
            feed_forward: FeedForward {
                norm: norm(before)?,
                inner: self.linear(&inner_parts, hidden, config.mlp_bias)?,
                outer: self.linear(
                    &[(name("mlp.down_proj"), hidden)],
                    config.intermediate_size,
                    config.mlp_bias,
                )?,
                d_ff: config.intermediate_size,
                activation: config.activation,
                gated: true,
                post_norm: after.map(norm).transpose()?,
            },
        })
    }

    /// Loads projections side by side, `[inputs → all outputs]`.
    fn linear(&self, parts: &[(String, usize)], inputs: usize, bias: bool) -> Result<B::Linear> {
        let get = |name: &str, kind: &str, shape: &[usize]| {
            self.weights.get(&format!("{}{name}.{kind}", self.prefix), shape)
        };
        let weights: Result<Vec<Tensor>> = parts
            .iter()
            .map(|(name, outputs)| get(name, "weight", &[*outputs, inputs]))
            .collect();
        let biases: Result<Vec<Tensor>> = parts
            .iter()
            .filter(|_| bias)
            .map(|(name, outputs)| get(name, "bias", &[*outputs]))
            .collect();
        let bias = match biases? {
            biases if biases.is_empty() => None,
            biases => Some(Tensor::cat(&biases, 0)?),
        };
        Ok(self.backend.linear(&weights?, bias.as_ref())?)
    }

    fn norm(&self, name: &str, width: usize) -> Result<B::Norm> {
        let weight = self
            .weights
            .get(&format!("{}{name}.weight", self.prefix), &[width])?;
        // Gemma stores the difference to 1.
        let weight = if self.config.gemma {
            (weight + 1.0)?
        } else {
            weight
        };
        Ok(self.backend.norm(&weight, self.config.rms_norm_eps as f32)?)
    }
}
