//! The configuration of the T5 family.

use candle_nn::Activation;
use candle_transformers::models::t5::deserialize_feed_forward_proj_activation;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as NameError;
use serde_json::{Map, Value};

use super::Ids;
use crate::error::{LoadError, Result};

/// A member of the T5 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// T5 1.0, T5 1.1 and Flan-T5.
    T5,
    /// Multilingual T5: T5 1.1 with another vocabulary.
    Mt5,
    /// UMT5: every layer has its own relative position bias.
    Umt5,
}

impl Architecture {
    /// The `model_type` of `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::T5 => "t5",
            Self::Mt5 => "mt5",
            Self::Umt5 => "umt5",
        }
    }

    /// Sizes that `config.json` may omit, with the defaults of transformers.
    fn default_sizes(self) -> [(&'static str, usize); 7] {
        let [vocab_size, d_ff, num_layers, num_heads] = match self {
            Self::T5 => [32_128, 2_048, 6, 8],
            Self::Mt5 | Self::Umt5 => [250_112, 1_024, 8, 6],
        };
        [
            ("vocab_size", vocab_size),
            ("d_model", 512),
            ("d_kv", 64),
            ("d_ff", d_ff),
            ("num_layers", num_layers),
            ("num_heads", num_heads),
            ("relative_attention_num_buckets", 32),
        ]
    }
}

/// Shape of a T5 model.
///
/// candle-transformers' own type lacks the model type, has no defaults for fields that real files omit, and accepts a
/// single end token only.
#[derive(Debug, Clone, PartialEq)]
pub struct T5Config {
    /// Member of the family.
    pub architecture: Architecture,
    /// Rows of the embedding and of the output head.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Width of one attention head's keys and values.
    pub d_kv: usize,
    /// Inner width of the feed-forward layers.
    pub d_ff: usize,
    /// Encoder layers.
    pub num_layers: usize,
    /// Decoder layers.
    pub num_decoder_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Buckets of the relative position bias.
    pub relative_attention_num_buckets: usize,
    /// Distance, in tokens, from which all positions share the last bucket.
    pub relative_attention_max_distance: usize,
    /// Epsilon that is added to the mean square before the root.
    pub layer_norm_epsilon: f64,
    /// Activation of the feed-forward layers.
    pub activation: Activation,
    /// Whether the activation gates a second projection (T5 1.1) or stands alone (T5 1.0).
    pub gated: bool,
    /// Whether the decoder's output is scaled by d_model^-0.5 before the head. True where the head is tied to the
    /// embedding (T5 1.0).
    pub scale_output: bool,
    /// Padding id.
    pub pad_token_id: u32,
    /// End-of-sequence ids.
    pub eos_token_ids: Vec<u32>,
    /// First id of every decoder input.
    pub decoder_start_token_id: u32,
    /// Input tokens that the model was trained for, if the file says so.
    pub n_positions: Option<usize>,
    /// `task_specific_params.summarization`: the prompt prefix and, in older files, generation defaults.
    pub summarization: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawConfig {
    vocab_size: usize,
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_decoder_layers: Option<usize>,
    num_heads: usize,
    relative_attention_num_buckets: usize,
    #[serde(default = "default_max_distance")]
    relative_attention_max_distance: usize,
    #[serde(default = "default_epsilon")]
    layer_norm_epsilon: f64,
    feed_forward_proj: Option<String>,
    tie_word_embeddings: Option<bool>,
    scale_decoder_outputs: Option<bool>,
    pad_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
    decoder_start_token_id: Option<u32>,
    n_positions: Option<usize>,
    task_specific_params: Option<Map<String, Value>>,
}

fn default_max_distance() -> usize {
    128
}

fn default_epsilon() -> f64 {
    1e-6
}

impl T5Config {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// [`LoadError::Architecture`] for another kind of model, [`LoadError::Config`] for an invalid file.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let wrong = |reason: String| LoadError::Config {
            file: "config.json",
            reason,
        };
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let model_type = value
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or("(none)")
            .to_owned();
        let architecture = match model_type.as_str() {
            "t5" => Architecture::T5,
            "mt5" => Architecture::Mt5,
            "umt5" => Architecture::Umt5,
            _ => return Err(LoadError::Architecture { found: model_type }),
        };
        if value.get("is_encoder_decoder").and_then(Value::as_bool) == Some(false) {
            return Err(LoadError::Architecture {
                found: format!("{model_type} without a decoder"),
            });
        }
        if let Value::Object(fields) = &mut value {
            for (name, default) in architecture.default_sizes() {
                fields.entry(name).or_insert_with(|| default.into());
            }
        }
        let raw: RawConfig = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let (activation, gated) =
            feed_forward(raw.feed_forward_proj.as_deref(), architecture).map_err(&wrong)?;
        let config = Self {
            architecture,
            vocab_size: raw.vocab_size,
            d_model: raw.d_model,
            d_kv: raw.d_kv,
            d_ff: raw.d_ff,
            num_layers: raw.num_layers,
            num_decoder_layers: raw.num_decoder_layers.unwrap_or(raw.num_layers),
            num_heads: raw.num_heads,
            relative_attention_num_buckets: raw.relative_attention_num_buckets,
            relative_attention_max_distance: raw.relative_attention_max_distance,
            layer_norm_epsilon: raw.layer_norm_epsilon,
            activation,
            gated,
            // T5 1.1 files say that nothing is tied. transformers 5 always ties and stores the scaling separately.
            scale_output: architecture != Architecture::Mt5
                && raw
                    .scale_decoder_outputs
                    .unwrap_or(raw.tie_word_embeddings != Some(false)),
            pad_token_id: raw.pad_token_id.unwrap_or(0),
            eos_token_ids: raw.eos_token_id.map_or_else(|| vec![1], Ids::into_vec),
            decoder_start_token_id: raw.decoder_start_token_id.or(raw.pad_token_id).unwrap_or(0),
            n_positions: raw.n_positions,
            summarization: match raw
                .task_specific_params
                .and_then(|mut tasks| tasks.remove("summarization"))
            {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            },
        };
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// Width of all heads together.
    pub fn inner_dim(&self) -> usize {
        self.num_heads * self.d_kv
    }

    /// Returns the number of parameters of a model of this shape. `untied` says whether it has its own output head.
    pub(crate) fn parameters(&self, untied: bool) -> u64 {
        let (model, inner, wide) = (self.d_model, self.inner_dim(), self.d_ff);
        let attention = 4 * model * inner + model;
        let feed_forward = (if self.gated { 3 } else { 2 }) * model * wide + model;
        let bias = self.relative_attention_num_buckets * self.num_heads;
        let biases = |layers| {
            if self.architecture == Architecture::Umt5 {
                layers * bias
            } else {
                bias
            }
        };
        let encoder = self.num_layers * (attention + feed_forward) + biases(self.num_layers) + model;
        let decoder = self.num_decoder_layers * (2 * attention + feed_forward)
            + biases(self.num_decoder_layers)
            + model;
        let embeddings = self.vocab_size * model * if untied { 2 } else { 1 };
        (embeddings + encoder + decoder) as u64
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size, 4_000_000),
            ("d_model", self.d_model, 65_536),
            ("d_kv", self.d_kv, 65_536),
            // T5-11b uses this limit. Beyond 66 311 inputs, sums of 8-bit products overflow 32 bits.
            ("d_ff", self.d_ff, 65_536),
            ("num_layers", self.num_layers, 512),
            ("num_decoder_layers", self.num_decoder_layers, 512),
            ("num_heads", self.num_heads, 4096),
        ];
        for (name, value, most) in sizes {
            if value == 0 || value > most {
                return Err(format!(
                    "{name} must be at least 1 and at most {most}, and is {value}"
                ));
            }
        }
        if self.inner_dim() > 65_536 {
            return Err(format!(
                "num_heads * d_kv must be at most 65536, and is {}",
                self.inner_dim()
            ));
        }
        let buckets = self.relative_attention_num_buckets;
        if !(4..=4096).contains(&buckets)
            || !buckets.is_multiple_of(2)
            || self.relative_attention_max_distance <= buckets / 2
        {
            return Err(format!(
                "relative_attention_num_buckets {buckets} does not fit relative_attention_max_distance {}",
                self.relative_attention_max_distance
            ));
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            return Err(format!("layer_norm_epsilon is {}", self.layer_norm_epsilon));
        }
        if self.eos_token_ids.is_empty() {
            return Err("eos_token_id is an empty list".to_owned());
        }
        let ids = [self.pad_token_id, self.decoder_start_token_id];
        if let Some(id) = ids
            .iter()
            .chain(&self.eos_token_ids)
            .find(|id| **id as usize >= self.vocab_size)
        {
            return Err(format!(
                "token id {id} is outside the vocabulary of {}",
                self.vocab_size
            ));
        }
        Ok(())
    }
}

fn feed_forward(name: Option<&str>, architecture: Architecture) -> Result<(Activation, bool), String> {
    let name = name.unwrap_or(if architecture == Architecture::T5 {
        "relu"
    } else {
        "gated-gelu"
    });
    let refused = || format!("feed_forward_proj {name:?} is not supported");
    // candle-transformers knows the plain names and that "gated-gelu" means the tanh approximation.
    let parse = |name: &str| {
        deserialize_feed_forward_proj_activation::<serde::de::value::StrDeserializer<'_, NameError>>(
            name.into_deserializer(),
        )
    };
    let (activation, gated) = match (parse(name), name.strip_prefix("gated-")) {
        (Ok(known), _) => (known.activation, known.gated),
        (Err(_), Some(kind)) => (parse(kind).map_err(|_| refused())?.activation, true),
        (Err(_), None) => return Err(refused()),
    };
    match activation {
        Activation::Relu
        | Activation::NewGelu
        | Activation::Gelu
        | Activation::GeluPytorchTanh
        | Activation::Silu
        | Activation::Swish => Ok((activation, gated)),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"model_type":"t5","vocab_size":32128,"d_model":512,"d_kv":64,"d_ff":2048,"num_layers":6,
        "num_heads":8,"relative_attention_num_buckets":32,"eos_token_id":1,"pad_token_id":0}"#;

    fn with(key: &str, value: Value) -> Result<T5Config> {
        let mut config: Value = serde_json::from_str(SMALL).unwrap();
        config[key] = value;
        T5Config::from_json(config.to_string().as_bytes())
    }

    #[test]
    fn missing_keys_take_t5_defaults() {
        let config = T5Config::from_json(SMALL.as_bytes()).unwrap();
        assert_eq!(
            (config.activation, config.gated, config.scale_output),
            (Activation::Relu, false, true)
        );
        assert_eq!(
            (config.num_decoder_layers, config.relative_attention_max_distance),
            (6, 128)
        );
        assert_eq!(
            (config.decoder_start_token_id, config.eos_token_ids),
            (0, vec![1])
        );
    }

    #[test]
    fn omitted_sizes_take_the_defaults_of_the_model_type() {
        let sizes = |model_type: &str| {
            let json = format!(r#"{{"model_type":"{model_type}"}}"#);
            let config = T5Config::from_json(json.as_bytes()).unwrap();
            assert_eq!((config.d_model, config.d_kv), (512, 64));
            assert_eq!(config.relative_attention_num_buckets, 32);
            [
                config.vocab_size,
                config.d_ff,
                config.num_layers,
                config.num_heads,
            ]
        };
        assert_eq!(sizes("t5"), [32_128, 2_048, 6, 8]);
        assert_eq!(sizes("mt5"), [250_112, 1_024, 8, 6]);
        assert_eq!(sizes("umt5"), [250_112, 1_024, 8, 6]);
    }

    #[test]
    fn version_1_1_is_gated_and_not_scaled() {
        let config = with("feed_forward_proj", "gated-gelu".into()).unwrap();
        assert_eq!((config.activation, config.gated), (Activation::NewGelu, true));
        assert!(!with("tie_word_embeddings", false.into()).unwrap().scale_output);
        assert!(!with("scale_decoder_outputs", false.into()).unwrap().scale_output);
        assert!(!with("model_type", "mt5".into()).unwrap().scale_output);
    }

    #[test]
    fn unsupported_or_invalid_configurations_name_the_key() {
        let text = |result: Result<T5Config>| result.unwrap_err().to_string();
        assert!(
            matches!(with("model_type", "bart".into()), Err(LoadError::Architecture { found }) if found == "bart")
        );
        assert!(text(with("is_encoder_decoder", false.into())).contains("without a decoder"));
        assert!(text(with("feed_forward_proj", "maxout".into())).contains("maxout"));
        assert!(text(with("num_heads", 0.into())).contains("num_heads must be at least 1"));
        assert!(text(with("eos_token_id", 99_999.into())).contains("token id 99999"));
        assert!(text(with("d_model", Value::Null)).contains("config.json"));
        assert!(text(T5Config::from_json(b"{")).contains("config.json"));
    }
}
