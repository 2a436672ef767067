//! A model's default generation parameters and special tokens.

use serde_json::{Map, Value};

use super::params::{EarlyStopping, GenerationParams, MAX_NEW_TOKENS};
use crate::config::{Ids, ModelConfig};
use crate::error::{LoadError, Result};

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

/// Maximum new tokens of a decoder-only model if neither the model nor the request sets it: a few sentences.
const CAUSAL_NEW_TOKENS: usize = 128;

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
    pub(crate) fn from_json(bytes: Option<&[u8]>, config: &ModelConfig) -> Result<Self> {
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
                    "ignoring an unsupported setting of generation_config.json"
                );
            }
        }
        let fields = Fields {
            file: &file,
            task: config.summarization(),
        };
        let fallback = GenerationParams::default();
        // The lengths of a decoder-only model include its input.
        let lengths = config.has_encoder();
        let max_new_tokens = match fields.whole("max_new_tokens")? {
            Some(new) => new,
            None if lengths => fields
                .whole("max_length")?
                .map_or(fallback.max_new_tokens, |length| length.saturating_sub(1)),
            None => CAUSAL_NEW_TOKENS,
        };
        let min_new_tokens = match fields.whole("min_new_tokens")? {
            Some(new) => new,
            None if lengths => fields
                .whole("min_length")?
                .map_or(0, |length| length.saturating_sub(1)),
            None => 0,
        };
        let num_beams = fields.whole("num_beams")?.unwrap_or(fallback.num_beams);
        let do_sample = fields.flag("do_sample")?.unwrap_or(fallback.do_sample);
        let samples = |name| fields.used_if(do_sample, name);
        let searches = |name| fields.used_if(num_beams > 1, name);
        let params = GenerationParams {
            num_beams,
            do_sample,
            temperature: samples("temperature")
                .number("temperature")?
                .unwrap_or(fallback.temperature),
            top_k: samples("top_k").whole("top_k")?.unwrap_or(fallback.top_k),
            top_p: samples("top_p").number("top_p")?.unwrap_or(fallback.top_p),
            length_penalty: searches("length_penalty")
                .number("length_penalty")?
                .unwrap_or(fallback.length_penalty),
            early_stopping: match fields.get("early_stopping") {
                Some(Value::String(never)) if never == "never" => EarlyStopping::Never,
                _ => searches("early_stopping")
                    .flag("early_stopping")?
                    .unwrap_or(false)
                    .into(),
            },
            no_repeat_ngram_size: fields
                .whole("no_repeat_ngram_size")?
                .unwrap_or(fallback.no_repeat_ngram_size),
            repetition_penalty: fields
                .number("repetition_penalty")?
                .unwrap_or(fallback.repetition_penalty),
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
            start: start.unwrap_or(config.start()),
            eos: eos.unwrap_or_else(|| config.eos().to_vec()),
        };
        let unknown = |id: &u32| *id as usize >= config.vocabulary();
        let first = [defaults.start]
            .into_iter()
            .chain(defaults.eos.iter().copied())
            .find(unknown);
        if let Some(id) = first {
            return Err(wrong(format!(
                "token id {id} is outside the vocabulary of {}",
                config.vocabulary()
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
#[derive(Clone, Copy)]
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

    /// Returns these settings, or none if the model's default search ignores `name` and its value is out of bounds. Files
    /// written by other tools have such values, for example `"temperature": 0.0` beside `"do_sample": false`.
    fn used_if(self, is_used: bool, name: &'static str) -> Self {
        static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let valid = match (name, self.get(name)) {
            (_, None) => true,
            ("early_stopping", Some(value)) => value.is_boolean(),
            ("top_k", Some(value)) => value.as_u64().is_some(),
            (_, Some(value)) => value.as_f64().is_some_and(|value| {
                let mut params = GenerationParams::default();
                match name {
                    "temperature" => params.temperature = value,
                    "top_p" => params.top_p = value,
                    _ => params.length_penalty = value,
                }
                params.validate().is_ok()
            }),
        };
        if is_used || valid {
            return self;
        }
        tracing::warn!(
            setting = name,
            "ignoring a setting that the default search does not use"
        );
        Self {
            file: &NONE,
            task: &NONE,
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

    fn config(task: &str) -> ModelConfig {
        let json = format!(
            r#"{{"model_type":"t5","vocab_size":100,"d_model":8,"d_kv":4,"d_ff":16,"num_layers":1,"num_heads":2,
            "relative_attention_num_buckets":32,"task_specific_params":{{"summarization":{task}}}}}"#
        );
        ModelConfig::from_json(json.as_bytes()).unwrap()
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
        let fallback = GenerationDefaults::from_json(None, &config("{}")).unwrap();
        assert_eq!(fallback.params, GenerationParams::default());
    }

    #[test]
    fn invalid_settings_that_the_default_search_ignores_are_ignored() {
        for file in [
            r#"{"temperature":0.0,"do_sample":false}"#,
            r#"{"top_k":-1}"#,
            r#"{"top_p":2}"#,
            r#"{"length_penalty":"none","early_stopping":1,"num_beams":1}"#,
        ] {
            let defaults = GenerationDefaults::from_json(Some(file.as_bytes()), &config("{}")).unwrap();
            assert_eq!(defaults.params, GenerationParams::default(), "{file}");
        }
        // A valid one is the default of requests that sample.
        let file = br#"{"temperature":0.5,"do_sample":false}"#;
        let defaults = GenerationDefaults::from_json(Some(file), &config("{}")).unwrap();
        assert_eq!(defaults.params.temperature, 0.5);
    }

    #[test]
    fn invalid_generation_configs_are_refused() {
        for file in [
            r#"{"num_beams":"four"}"#,
            r#"{"num_beams":1000}"#,
            r#"{"eos_token_id":100}"#,
            "[]",
            r#"{"do_sample":true,"top_p":2}"#,
            r#"{"do_sample":true,"temperature":0.0}"#,
            r#"{"num_beams":2,"length_penalty":11}"#,
        ] {
            let error = GenerationDefaults::from_json(Some(file.as_bytes()), &config("{}")).unwrap_err();
            assert!(error.to_string().contains("generation_config.json"), "{error}");
        }
    }
}
