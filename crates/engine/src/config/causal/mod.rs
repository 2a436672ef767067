//! The configuration of decoder-only models: Llama and its relatives.

mod fields;
mod layers;

use candle_nn::Activation;
use serde_json::Value;

use self::fields::{Family, Fields};
use self::layers::{layers, ropes};
use super::{Ids, RopeConfig, wrong};
use crate::error::{LoadError, Result};

/// Shape of a decoder-only model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CausalConfig {
    /// `model_type`.
    pub(crate) architecture: &'static str,
    /// Rows of the embedding and of the output head.
    pub(crate) vocab_size: usize,
    /// Width of the hidden states.
    pub(crate) hidden_size: usize,
    /// Inner width of the feed-forward layers.
    pub(crate) intermediate_size: usize,
    /// Query heads.
    pub(crate) num_attention_heads: usize,
    /// Key and value heads, each shared by several query heads.
    pub(crate) num_key_value_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Epsilon of the normalizations.
    pub(crate) rms_norm_eps: f64,
    /// Activation of the feed-forward layers.
    pub(crate) activation: Activation,
    /// Whether the output head is the embedding.
    pub(crate) tied: bool,
    /// Tokens that the model was trained for.
    pub(crate) max_positions: usize,
    /// Whether queries, keys and values have a bias.
    pub(crate) qkv_bias: bool,
    /// Whether the attention's output has a bias.
    pub(crate) output_bias: bool,
    /// Whether the feed-forward layers have biases.
    pub(crate) mlp_bias: bool,
    /// Whether each query and key head is normalized (Qwen3, Gemma 3).
    pub(crate) query_key_norms: bool,
    /// Gemma's variants: normalization weights are stored without their 1, results of layers are normalized too, and
    /// embeddings are multiplied by √hidden_size.
    pub(crate) gemma: bool,
    /// Factor of the attention scores.
    pub(crate) scale: f64,
    /// The layers.
    pub(crate) layers: Vec<LayerConfig>,
    /// Kinds of positions, which layers refer to.
    pub(crate) ropes: Vec<RopeConfig>,
    /// End-of-sequence ids.
    pub(crate) eos_token_ids: Vec<u32>,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerConfig {
    /// Number of tokens that a query sees, or `None` for all.
    pub(crate) window: Option<usize>,
    /// Index into [`CausalConfig::ropes`].
    pub(crate) rope: usize,
}

impl CausalConfig {
    /// Returns whether a configuration is of a supported kind.
    pub(super) fn supports(value: &Value) -> bool {
        let model_type = value.get("model_type").and_then(Value::as_str);
        model_type.is_some_and(|name| name == "gemma3" || Family::of(name).is_some())
    }

    /// Reads a configuration. Returns `None` if it is of another kind.
    ///
    /// # Errors
    /// [`LoadError::Config`] for an invalid file, [`LoadError::Architecture`] for a variant that is not supported.
    pub(super) fn from_value(value: &Value) -> Result<Option<Self>> {
        let model_type = value.get("model_type").and_then(Value::as_str);
        // The text part of a model that also sees images.
        let (value, model_type) = match (model_type, value.get("text_config")) {
            (Some("gemma3"), Some(text)) => (text, Some("gemma3_text")),
            (model_type, _) => (value, model_type),
        };
        let (Some(family), Value::Object(map)) = (model_type.and_then(Family::of), value) else {
            return Ok(None);
        };
        let config = Self::read(family, Fields::new(map))?;
        config.check().map_err(wrong)?;
        Ok(Some(config))
    }

    fn read(family: Family, fields: Fields<'_>) -> Result<Self> {
        for name in [
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "quantization_config",
        ] {
            if fields.get(name).is_some() {
                return Err(LoadError::Architecture {
                    found: format!("{} with {name}", family.name()),
                });
            }
        }
        let hidden_size = fields.needed("hidden_size")?;
        let num_attention_heads = fields.needed("num_attention_heads")?;
        let head_dim = match (fields.whole("head_dim")?, family) {
            (Some(width), _) => width,
            (None, Family::Gemma3) => 256,
            (None, Family::Qwen3) => 128,
            (None, _) => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
        };
        let (theta, max_positions) = match family {
            Family::Llama => (1e4, 2048),
            Family::Mistral => (1e4, 131_072),
            Family::Qwen2 | Family::Qwen3 => (1e4, 32_768),
            Family::Gemma3 => (1e6, 131_072),
        };
        let max_positions = fields.whole("max_position_embeddings")?.unwrap_or(max_positions);
        let theta = fields.number("rope_theta", theta)?;
        let activation = match family {
            Family::Gemma3 => fields
                .get("hidden_activation")
                .or_else(|| fields.get("hidden_act")),
            _ => fields.get("hidden_act"),
        };
        let activation = match activation.and_then(Value::as_str) {
            None if family == Family::Gemma3 => Activation::GeluPytorchTanh,
            Some("gelu_pytorch_tanh" | "gelu_new") => Activation::GeluPytorchTanh,
            None | Some("silu" | "swish") => Activation::Silu,
            Some(other) => return Err(wrong(format!("hidden_act {other:?} is not supported"))),
        };
        let layers = layers(family, fields)?;
        let ropes = ropes(family, fields, theta, max_positions)?;
        let score_width = match family {
            Family::Gemma3 => fields.number("query_pre_attn_scalar", 256.0)?,
            _ => head_dim as f64,
        };
        let eos = match fields.get("eos_token_id") {
            None => Vec::new(),
            Some(value) => serde_json::from_value::<Ids>(value.clone())
                .map_err(|_| wrong(format!("eos_token_id is {value}")))?
                .into_vec(),
        };
        let attention_bias = fields.flag("attention_bias");
        Ok(Self {
            architecture: family.name(),
            vocab_size: fields.needed("vocab_size")?,
            hidden_size,
            intermediate_size: fields.needed("intermediate_size")?,
            num_attention_heads,
            num_key_value_heads: fields
                .whole("num_key_value_heads")?
                .unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: fields.number("rms_norm_eps", 1e-6)?,
            activation,
            tied: match fields.get("tie_word_embeddings") {
                Some(tied) => tied.as_bool().unwrap_or(false),
                None => family == Family::Gemma3,
            },
            max_positions,
            qkv_bias: family == Family::Qwen2 || attention_bias,
            output_bias: attention_bias && family != Family::Qwen2,
            mlp_bias: fields.flag("mlp_bias"),
            query_key_norms: matches!(family, Family::Qwen3 | Family::Gemma3),
            gemma: family == Family::Gemma3,
            scale: score_width.powf(-0.5),
            layers,
            ropes,
            eos_token_ids: eos,
        })
    }

    /// Returns the number of parameters of a model of this shape.
    pub(super) fn parameters(&self, untied: bool) -> u64 {
        let (width, inner) = (self.hidden_size, self.num_attention_heads * self.head_dim);
        let kv_inner = self.num_key_value_heads * self.head_dim;
        let biases = match (self.qkv_bias, self.output_bias) {
            (false, _) => 0,
            (true, false) => inner + 2 * kv_inner,
            (true, true) => inner + 2 * kv_inner + width,
        };
        let head_norms = if self.query_key_norms {
            2 * self.head_dim
        } else {
            0
        };
        let attention = 2 * width * (inner + kv_inner) + biases + head_norms;
        let feed_forward = 3 * width * self.intermediate_size
            + if self.mlp_bias {
                2 * self.intermediate_size + width
            } else {
                0
            };
        let norms = if self.gemma { 4 } else { 2 } * width;
        let embeddings = self.vocab_size * width * if untied { 2 } else { 1 };
        (self.layers.len() * (attention + feed_forward + norms) + embeddings + width) as u64
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size, 4_000_000),
            ("hidden_size", self.hidden_size, 65_536),
            // Beyond 66 311 inputs, sums of 8-bit products overflow 32 bits.
            ("intermediate_size", self.intermediate_size, 65_536),
            ("num_hidden_layers", self.layers.len(), 512),
            ("num_attention_heads", self.num_attention_heads, 4096),
            ("num_key_value_heads", self.num_key_value_heads, 4096),
            ("head_dim", self.head_dim, 4096),
        ];
        for (name, value, most) in sizes {
            if value == 0 || value > most {
                return Err(format!(
                    "{name} must be at least 1 and at most {most}, and is {value}"
                ));
            }
        }
        if self.num_attention_heads * self.head_dim > 65_536 {
            return Err("num_attention_heads * head_dim must be at most 65536".to_owned());
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(format!(
                "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim {} is odd", self.head_dim));
        }
        if self.max_positions < 16 {
            return Err(format!("max_position_embeddings is {}", self.max_positions));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(format!("rms_norm_eps is {}", self.rms_norm_eps));
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err("query_pre_attn_scalar must be positive".to_owned());
        }
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            return Err("sliding_window is 0".to_owned());
        }
        match self
            .eos_token_ids
            .iter()
            .find(|id| **id as usize >= self.vocab_size)
        {
            Some(id) => Err(format!(
                "token id {id} is outside the vocabulary of {}",
                self.vocab_size
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn parse(json: Value) -> Result<CausalConfig> {
        CausalConfig::from_value(&json).map(Option::unwrap)
    }

    fn smollm2() -> Value {
        serde_json::json!({"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 8192, "rope_theta": 100_000, "tie_word_embeddings": true, "eos_token_id": 2})
    }

    #[test]
    fn missing_keys_take_the_defaults_of_the_model_type() {
        let config = parse(smollm2()).unwrap();
        assert_eq!(
            (config.head_dim, config.scale, config.qkv_bias),
            (64, 0.125, false)
        );
        assert_eq!(config.parameters(false), 134_515_008);
        let mut qwen = smollm2();
        qwen["model_type"] = "qwen3".into();
        let qwen = parse(qwen).unwrap();
        assert_eq!((qwen.head_dim, qwen.query_key_norms), (128, true));
    }

    #[test]
    fn gemma_slides_in_five_of_six_layers() {
        let mut gemma = smollm2();
        gemma["model_type"] = "gemma3_text".into();
        gemma["num_hidden_layers"] = 7.into();
        gemma["sliding_window"] = 512.into();
        let gemma = parse(serde_json::json!({"model_type": "gemma3", "text_config": gemma})).unwrap();
        let windows: Vec<Option<usize>> = gemma.layers.iter().map(|layer| layer.window).collect();
        assert_eq!(windows[4..], [Some(512), None, Some(512)]);
        assert_eq!(gemma.ropes.len(), 2);
    }

    #[test]
    fn invalid_configurations_name_the_key() {
        let error = |key: &str, value: Value| {
            let mut config = smollm2();
            config[key] = value;
            parse(config).unwrap_err().to_string()
        };
        assert!(error("num_key_value_heads", 4.into()).contains("num_key_value_heads 4"));
        assert!(error("hidden_size", Value::Null).contains("hidden_size"));
        assert!(error("vocab_size", "many".into()).contains("vocab_size"));
        assert!(error("hidden_act", "relu".into()).contains("relu"));
        assert!(error("eos_token_id", 50_000.into()).contains("50000"));
        assert!(error("final_logit_softcapping", 30.into()).contains("final_logit_softcapping"));
        assert!(error("rope_scaling", serde_json::json!({"type": "longrope"})).contains("longrope"));
    }
}
