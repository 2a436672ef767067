//! Generation parameters, their bounds, and a model's defaults.

use serde_json::{Map, Value};

use crate::config::{Ids, T5Config};
use crate::error::{LoadError, Result};

/// Maximum beams per request.
pub const MAX_BEAMS: usize = 64;
/// Maximum new tokens per request.
pub const MAX_NEW_TOKENS: usize = 512;
/// transformers' default `top_k`, which applies to sampling only.
const DEFAULT_TOP_K: usize = 50;
/// Maximum new tokens if neither the model nor the request sets it.
const DEFAULT_NEW_TOKENS: usize = 63;

/// When a beam search stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// `false`: when the best running beam, at its current length, no longer beats the worst finished one.
    #[default]
    Heuristic,
    /// `true`: as soon as `num_beams` hypotheses are finished.
    FirstBeams,
    /// `"never"`: when no running beam can beat the worst finished one at any length.
    Never,
}

impl From<bool> for EarlyStopping {
    fn from(early: bool) -> Self {
        if early { Self::FirstBeams } else { Self::Heuristic }
    }
}

/// The generation parameters of one request. Names and meaning are those of transformers' `generate`.
///
/// Lengths count new tokens, including the end token but not the start token. transformers' `max_length` 64 is
/// `max_new_tokens` 63, and its `min_length` 10 is `min_new_tokens` 9.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationParams {
    /// Hypotheses kept at each step; 1 is greedy search or plain sampling. 1 to [`MAX_BEAMS`].
    pub num_beams: usize,
    /// Sample tokens by their probability instead of taking the most probable one.
    pub do_sample: bool,
    /// Divides the scores before sampling. Above 0, at most 100.
    pub temperature: f64,
    /// Sample from this many most probable tokens only. 0 means all.
    pub top_k: usize,
    /// Sample from the smallest set of most probable tokens whose probabilities sum to this. Above 0, at most 1.
    pub top_p: f64,
    /// Exponent of the length that divides a finished beam's log-probability. -10 to 10.
    pub length_penalty: f64,
    /// When a beam search stops.
    pub early_stopping: EarlyStopping,
    /// Length of token sequences that may not occur twice. 0 allows repetition. At most 64.
    pub no_repeat_ngram_size: usize,
    /// Divides positive and multiplies negative scores of tokens that already occur. 1 has no effect. Above 0, at most
    /// 10.
    pub repetition_penalty: f64,
    /// New tokens before which the end token is banned. At most `max_new_tokens`.
    pub min_new_tokens: usize,
    /// Maximum new tokens. 1 to [`MAX_NEW_TOKENS`].
    pub max_new_tokens: usize,
    /// Number of sequences to return, best first. 1 to `num_beams`.
    pub num_return_sequences: usize,
    /// Seed of the sampling. The same seed, input and parameters give the same result in any batch. `None` draws a
    /// seed, which the result contains.
    pub seed: Option<u64>,
}

impl Default for GenerationParams {
    fn default() -> Self {
        Self {
            num_beams: 1,
            do_sample: false,
            temperature: 1.0,
            top_k: DEFAULT_TOP_K,
            top_p: 1.0,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Heuristic,
            no_repeat_ngram_size: 0,
            repetition_penalty: 1.0,
            min_new_tokens: 0,
            max_new_tokens: DEFAULT_NEW_TOKENS,
            num_return_sequences: 1,
            seed: None,
        }
    }
}

/// A parameter that is out of bounds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} must be {bounds}, and is {value}")]
pub struct ParamError {
    /// The field of [`GenerationParams`].
    pub field: &'static str,
    /// The allowed values, in words.
    pub bounds: String,
    /// The rejected value.
    pub value: String,
}

impl GenerationParams {
    /// Sets the length bounds in transformers' terms, which count the start token.
    #[must_use]
    pub fn with_lengths(mut self, min_length: usize, max_length: usize) -> Self {
        self.min_new_tokens = min_length.saturating_sub(1);
        self.max_new_tokens = max_length.saturating_sub(1);
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ParamError> {
        let whole = |field, value: usize, low: usize, high: usize| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(ParamError {
                field,
                bounds: format!("at least {low} and at most {high}"),
                value: value.to_string(),
            }),
        };
        // NaN fails every comparison.
        let above = |field, value: f64, high: f64| match value > 0.0 && value <= high {
            true => Ok(()),
            false => Err(ParamError {
                field,
                bounds: format!("above 0 and at most {high}"),
                value: value.to_string(),
            }),
        };
        whole("num_beams", self.num_beams, 1, MAX_BEAMS)?;
        whole(
            "num_return_sequences",
            self.num_return_sequences,
            1,
            self.num_beams,
        )?;
        above("temperature", self.temperature, 100.0)?;
        above("top_p", self.top_p, 1.0)?;
        if !(-10.0..=10.0).contains(&self.length_penalty) {
            return Err(ParamError {
                field: "length_penalty",
                bounds: "at least -10 and at most 10".to_owned(),
                value: self.length_penalty.to_string(),
            });
        }
        whole("no_repeat_ngram_size", self.no_repeat_ngram_size, 0, 64)?;
        above("repetition_penalty", self.repetition_penalty, 10.0)?;
        whole("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)?;
        whole("min_new_tokens", self.min_new_tokens, 0, self.max_new_tokens)
    }
}

/// A model's default parameters and special tokens, from `generation_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GenerationDefaults {
    /// Parameters of a request that sets none.
    pub(crate) params: GenerationParams,
    /// First id of the decoder input.
    pub(crate) start: u32,
    /// End-of-sequence ids.
    pub(crate) eos: Vec<u32>,
}

/// Settings that would change the output but are not supported, unless they have their neutral values.
const NOT_SUPPORTED: [&str; 12] = [
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "penalty_alpha",
    "min_p",
    "typical_p",
];

impl GenerationDefaults {
    /// Parses `generation_config.json`, if present.
    ///
    /// Missing settings come from the summarization task of `config.json`, where older models keep them, then from
    /// transformers' defaults. The maximum length is the exception: transformers' default of 20 would truncate every
    /// summary, so it is the 64 of the T5 summarizers.
    pub(crate) fn from_json(bytes: Option<&[u8]>, config: &T5Config) -> Result<Self> {
        let file: Map<String, Value> = match bytes {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?,
            None => Map::new(),
        };
        for name in NOT_SUPPORTED {
            if file
                .get(name)
                .is_some_and(|value| !value.is_null() && *value != 1.0 && *value != 0)
            {
                tracing::warn!(
                    setting = name,
                    "generation_config.json asks for something that this engine does not do"
                );
            }
        }
        let fields = Fields {
            file: &file,
            task: &config.summarization,
        };
        let usual = GenerationParams::default();
        let max_new_tokens = match fields.whole("max_new_tokens")? {
            Some(new) => new,
            None => fields
                .whole("max_length")?
                .map_or(usual.max_new_tokens, |length| length.saturating_sub(1)),
        };
        let min_new_tokens = match fields.whole("min_new_tokens")? {
            Some(new) => new,
            None => fields
                .whole("min_length")?
                .map_or(0, |length| length.saturating_sub(1)),
        };
        let params = GenerationParams {
            num_beams: fields.whole("num_beams")?.unwrap_or(usual.num_beams),
            do_sample: fields.flag("do_sample")?.unwrap_or(usual.do_sample),
            temperature: fields.number("temperature")?.unwrap_or(usual.temperature),
            top_k: fields.whole("top_k")?.unwrap_or(usual.top_k),
            top_p: fields.number("top_p")?.unwrap_or(usual.top_p),
            length_penalty: fields.number("length_penalty")?.unwrap_or(usual.length_penalty),
            early_stopping: match fields.get("early_stopping") {
                Some(Value::String(never)) if never == "never" => EarlyStopping::Never,
                _ => fields.flag("early_stopping")?.unwrap_or(false).into(),
            },
            no_repeat_ngram_size: fields
                .whole("no_repeat_ngram_size")?
                .unwrap_or(usual.no_repeat_ngram_size),
            repetition_penalty: fields
                .number("repetition_penalty")?
                .unwrap_or(usual.repetition_penalty),
            min_new_tokens: min_new_tokens.min(max_new_tokens).min(MAX_NEW_TOKENS),
            max_new_tokens: max_new_tokens.min(MAX_NEW_TOKENS),
            num_return_sequences: fields.whole("num_return_sequences")?.unwrap_or(1),
            seed: None,
        };
        params.validate().map_err(|error| wrong(error.to_string()))?;
        let id = |name: &str| match file.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value::<Ids>(value.clone())
                .map(|ids| Some(ids.into_vec()))
                .map_err(|_| wrong(format!("{name} is {value}"))),
        };
        let start = id("decoder_start_token_id")?.and_then(|ids| ids.first().copied());
        let eos = id("eos_token_id")?.filter(|ids| !ids.is_empty());
        let defaults = Self {
            params,
            start: start.unwrap_or(config.decoder_start_token_id),
            eos: eos.unwrap_or_else(|| config.eos_token_ids.clone()),
        };
        let unknown = |id: &u32| *id as usize >= config.vocab_size;
        let first = [defaults.start]
            .into_iter()
            .chain(defaults.eos.iter().copied())
            .find(unknown);
        if let Some(id) = first {
            return Err(wrong(format!(
                "token id {id} is outside the vocabulary of {}",
                config.vocab_size
            )));
        }
        Ok(defaults)
    }
}

fn wrong(reason: String) -> LoadError {
    LoadError::Config {
        file: "generation_config.json",
        reason,
    }
}

/// Reads a setting from `generation_config.json`, then from the summarization task. `null` counts as absent.
struct Fields<'a> {
    file: &'a Map<String, Value>,
    task: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        let present = |map: &'_ Map<String, Value>| map.get(name).is_some_and(|value| !value.is_null());
        if present(self.file) {
            self.file.get(name)
        } else {
            self.task.get(name).filter(|value| !value.is_null())
        }
    }

    fn read<T>(&self, name: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => convert(value)
                .map(Some)
                .ok_or_else(|| wrong(format!("{name} is {value}"))),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<usize>> {
        self.read(name, |value| {
            value.as_u64().and_then(|whole| usize::try_from(whole).ok())
        })
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.read(name, Value::as_f64)
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.read(name, Value::as_bool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(change: impl Fn(&mut GenerationParams)) -> String {
        let mut params = GenerationParams::default();
        change(&mut params);
        params.validate().unwrap_err().to_string()
    }

    #[test]
    fn out_of_bounds_errors_name_field_and_bounds() {
        assert_eq!(
            message(|p| p.num_beams = 0),
            "num_beams must be at least 1 and at most 64, and is 0"
        );
        assert_eq!(
            message(|p| p.temperature = 0.0),
            "temperature must be above 0 and at most 100, and is 0"
        );
        assert_eq!(
            message(|p| p.top_p = f64::NAN),
            "top_p must be above 0 and at most 1, and is NaN"
        );
        assert_eq!(
            message(|p| p.length_penalty = 11.0),
            "length_penalty must be at least -10 and at most 10, and is 11"
        );
        assert_eq!(
            message(|p| p.repetition_penalty = -1.0),
            "repetition_penalty must be above 0 and at most 10, and is -1"
        );
        assert_eq!(
            message(|p| p.max_new_tokens = 0),
            "max_new_tokens must be at least 1 and at most 512, and is 0"
        );
        assert_eq!(
            message(|p| p.min_new_tokens = 64),
            "min_new_tokens must be at least 0 and at most 63, and is 64"
        );
        assert!(
            GenerationParams::default()
                .with_lengths(10, 64)
                .validate()
                .is_ok()
        );
    }

    fn config(task: &str) -> T5Config {
        let json = format!(
            r#"{{"model_type":"t5","vocab_size":100,"d_model":8,"d_kv":4,"d_ff":16,"num_layers":1,"num_heads":2,
            "relative_attention_num_buckets":32,"task_specific_params":{{"summarization":{task}}}}}"#
        );
        T5Config::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn generation_config_precedes_task_settings_and_defaults() {
        let task = config(r#"{"num_beams":4,"length_penalty":2.0,"early_stopping":true,"max_length":200}"#);
        let file = br#"{"max_length":64,"length_penalty":null,"num_beams":2,"eos_token_id":[1,7]}"#;
        let defaults = GenerationDefaults::from_json(Some(file), &task).unwrap();
        assert_eq!(
            (defaults.params.num_beams, defaults.params.max_new_tokens),
            (2, 63)
        );
        assert_eq!(defaults.params.length_penalty, 2.0);
        assert_eq!(defaults.params.early_stopping, EarlyStopping::FirstBeams);
        assert_eq!((defaults.eos, defaults.start), (vec![1, 7], 0));
        let usual = GenerationDefaults::from_json(None, &config("{}")).unwrap();
        assert_eq!(usual.params, GenerationParams::default());
    }

    #[test]
    fn invalid_generation_configs_are_refused() {
        for file in [
            r#"{"num_beams":"four"}"#,
            r#"{"num_beams":1000}"#,
            r#"{"eos_token_id":100}"#,
            "[]",
            r#"{"top_p":2}"#,
        ] {
            let error = GenerationDefaults::from_json(Some(file.as_bytes()), &config("{}")).unwrap_err();
            assert!(error.to_string().contains("generation_config.json"), "{error}");
        }
    }
}
