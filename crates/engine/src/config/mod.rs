//! The settings that the engine reads from `config.json`.

mod causal;
mod rope;
mod t5;

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) use self::causal::{CausalConfig, LayerConfig};
pub(crate) use self::rope::RopeConfig;
pub use self::t5::{Architecture, T5Config};
use crate::error::{LoadError, Result};
use crate::generate::MAX_NEW_TOKENS;

/// Maximum input tokens of any model, including the prompt.
pub(crate) const MAX_INPUT_TOKENS: usize = 16_384;

/// Input tokens of a T5 whose configuration names no limit.
const DEFAULT_INPUT_TOKENS: usize = 512;

/// The configuration of a model of any supported architecture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelConfig {
    /// An encoder-decoder of the T5 family.
    T5(T5Config),
    /// A decoder-only model: Llama and its relatives.
    Causal(CausalConfig),
}

/// Shape of the KV cache of a decoder's own tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheShape {
    /// Decoder layers.
    pub(crate) layers: usize,
    /// Key and value heads per layer.
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

impl CacheShape {
    /// Returns the numbers that a token takes.
    pub(crate) fn numbers_per_token(self) -> usize {
        self.layers * 2 * self.heads * self.width
    }
}

impl ModelConfig {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// [`LoadError::Architecture`] for an unsupported kind of model, [`LoadError::Config`] for an invalid file.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        match CausalConfig::from_value(&value)? {
            Some(config) => Ok(Self::Causal(config)),
            None => T5Config::from_json(bytes).map(Self::T5),
        }
    }

    /// Returns `model_type`.
    pub(crate) fn architecture(&self) -> &'static str {
        match self {
            Self::T5(config) => config.architecture.as_str(),
            Self::Causal(config) => config.architecture,
        }
    }

    /// Returns the number of tokens in the vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        match self {
            Self::T5(config) => config.vocab_size,
            Self::Causal(config) => config.vocab_size,
        }
    }

    /// Returns the width of the hidden states.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::T5(config) => config.d_model,
            Self::Causal(config) => config.hidden_size,
        }
    }

    /// Returns whether an encoder reads the text.
    pub(crate) fn has_encoder(&self) -> bool {
        matches!(self, Self::T5(_))
    }

    /// Returns the end-of-sequence ids.
    pub(crate) fn eos(&self) -> &[u32] {
        match self {
            Self::T5(config) => &config.eos_token_ids,
            Self::Causal(config) => &config.eos_token_ids,
        }
    }

    /// Returns the first id of a decoder's sequence. A decoder-only model does not use it.
    pub(crate) fn start(&self) -> u32 {
        match self {
            Self::T5(config) => config.decoder_start_token_id,
            Self::Causal(_) => 0,
        }
    }

    /// Returns `task_specific_params.summarization`.
    pub(crate) fn summarization(&self) -> &Map<String, Value> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        match self {
            Self::T5(config) => &config.summarization,
            Self::Causal(_) => &NONE,
        }
    }

    /// Returns how many tokens a sequence may have, the prompt included, or `None` if only the input is limited.
    pub(crate) fn context(&self) -> Option<usize> {
        match self {
            Self::T5(_) => None,
            Self::Causal(config) => Some(config.max_positions),
        }
    }

    /// Returns the model's own input limit, in tokens. A decoder-only model keeps room for the summary.
    pub(crate) fn input_limit(&self) -> usize {
        match self {
            Self::T5(config) => config.n_positions.unwrap_or(DEFAULT_INPUT_TOKENS),
            Self::Causal(config) => {
                let context = config.max_positions;
                (context - MAX_NEW_TOKENS.min(context / 4)).min(MAX_INPUT_TOKENS)
            }
        }
    }

    /// Returns the shape of the KV cache of the decoder's own tokens.
    pub(crate) fn cache_shape(&self) -> CacheShape {
        match self {
            Self::T5(config) => CacheShape {
                layers: config.num_decoder_layers,
                heads: config.num_heads,
                width: config.d_kv,
            },
            Self::Causal(config) => CacheShape {
                layers: config.layers.len(),
                heads: config.num_key_value_heads,
                width: config.head_dim,
            },
        }
    }

    /// Returns whether the output head has weights of its own. `has_head` says whether the files contain one.
    pub(crate) fn is_untied(&self, has_head: bool) -> bool {
        match self {
            Self::T5(_) => has_head,
            Self::Causal(config) => !config.tied,
        }
    }

    /// Returns the number of parameters. `untied` says whether the weights have their own output head.
    pub(crate) fn parameters(&self, untied: bool) -> u64 {
        match self {
            Self::T5(config) => config.parameters(untied),
            Self::Causal(config) => config.parameters(untied),
        }
    }
}

/// Returns whether a `config.json` describes a decoder-only model that is supported.
pub(crate) fn is_causal(bytes: &[u8]) -> bool {
    serde_json::from_slice(bytes).is_ok_and(|value: Value| CausalConfig::supports(&value))
}

fn wrong(reason: String) -> LoadError {
    LoadError::Config {
        file: "config.json",
        reason,
    }
}

/// An id or a list of ids: files contain either.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    pub(crate) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}
