//! Generation parameters. All are optional: missing ones come from the worker's configuration, then from the model's
//! `generation_config.json`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error_code::{ErrorCode, Refusal};
use crate::subject::named;

/// Maximum number of beams.
pub const MAX_BEAMS: u32 = 64;
/// Minimum temperature. Dividing by a much smaller one overflows.
pub const MIN_TEMPERATURE: f64 = 0.001;
/// Minimum repetition penalty. Dividing by a much smaller one overflows.
pub const MIN_REPETITION_PENALTY: f64 = 0.01;
/// Maximum `top_k`.
pub const MAX_TOP_K: u32 = 1_000_000;
/// Maximum number of tokens in a summary.
pub const MAX_NEW_TOKENS: u32 = 512;

named! {
    /// How to handle a text with more tokens than the model reads.
    #[derive(Default)]
    LongText as "long_text" {
        /// Cut off its end.
        #[default]
        Truncate = "truncate",
        /// Split it at sentence boundaries into chunks, summarize each, then summarize the concatenated summaries.
        MapReduce = "map_reduce",
    }
}

named! {
    /// The third value of [`EarlyStopping`].
    Never as "early_stopping" {
        /// Stop when no running beam can beat the worst finished one at any length.
        Never = "never",
    }
}

/// When a beam search stops: `false`, `true` or `"never"`, as in transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EarlyStopping {
    /// `true`: as soon as `num_beams` hypotheses are finished. `false`: when the best running beam, at its current length,
    /// is no better than the worst finished one.
    Flag(bool),
    /// When no running beam can become better at any length.
    Never(Never),
}

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagOrNever;

        impl Visitor<'_> for FlagOrNever {
            type Value = EarlyStopping;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"never\"")
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<EarlyStopping, E> {
                Ok(EarlyStopping::Flag(flag))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EarlyStopping, E> {
                match text.parse() {
                    Ok(never) => Ok(EarlyStopping::Never(never)),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(FlagOrNever)
    }
}

/// Generation parameters. Names and meanings are those of `generate` in Hugging Face transformers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationParams {
    /// Number of beams, 1 to 64. 1 is greedy search or plain sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub num_beams: Option<u32>,
    /// Sample tokens by their probability instead of taking the most probable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub do_sample: Option<bool>,
    /// Divisor of the logits before sampling: below 1 is sharper, above 1 flatter. 0.001 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = MIN_TEMPERATURE, max = 100.0))]
    pub temperature: Option<f64>,
    /// Sample only from this many most probable tokens, at most 1000000; 0: from all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MAX_TOP_K))]
    pub top_k: Option<u32>,
    /// Sample only from the most probable tokens that together have this probability. Above 0, at most 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub top_p: Option<f64>,
    /// Exponent of the length that divides a finished beam's score: above 0 favours longer summaries. -10 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -10.0, max = 10.0))]
    pub length_penalty: Option<f64>,
    /// When beam search stops. `true`: once `num_beams` hypotheses are finished; `false`: when a better one is
    /// unlikely; `"never"`: when a better one is impossible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Length of token n-grams that may occur only once, at most 64; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 64))]
    pub no_repeat_ngram_size: Option<u32>,
    /// Penalty for tokens that already occurred; 1: none. 0.01 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = MIN_REPETITION_PENALTY, max = 10.0))]
    pub repetition_penalty: Option<f64>,
    /// Minimum number of tokens in the summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 512))]
    pub min_new_tokens: Option<u32>,
    /// Maximum number of tokens in the summary, 1 to 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub max_new_tokens: Option<u32>,
    /// Seed of sampling. The same seed, text and parameters give the same summary, whatever else is in the decoding
    /// batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = u64::MAX))]
    pub seed: Option<u64>,
    /// Keep only the first sentence of the summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_sentence: Option<bool>,
    /// How to handle a text with more tokens than the model reads: `truncate` (the default) or `map_reduce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_text: Option<LongText>,
}

impl GenerationParams {
    /// The names of all parameters.
    pub const NAMES: &[&str] = &[
        "num_beams",
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "length_penalty",
        "early_stopping",
        "no_repeat_ngram_size",
        "repetition_penalty",
        "min_new_tokens",
        "max_new_tokens",
        "seed",
        "first_sentence",
        "long_text",
    ];

    /// Checks bounds and combinations.
    ///
    /// # Errors
    /// A refusal with [`ErrorCode::InvalidParameter`] that names the field, its bounds and the value.
    pub fn validate(&self) -> Result<(), Refusal> {
        let within = |field: &str, value: Option<f64>, low: f64, high: f64, open_low: bool| match value {
            Some(value)
                if !value.is_finite() || value > high || value < low || (open_low && value <= low) =>
            {
                let bracket = if open_low { "above" } else { "at least" };
                Err(Refusal::new(
                    ErrorCode::InvalidParameter,
                    format!("params.{field} must be {bracket} {low} and at most {high}, not {value}"),
                ))
            }
            _ => Ok(()),
        };
        let int = |value: Option<u32>| value.map(f64::from);
        within("num_beams", int(self.num_beams), 1.0, f64::from(MAX_BEAMS), false)?;
        within("temperature", self.temperature, MIN_TEMPERATURE, 100.0, false)?;
        within("top_k", int(self.top_k), 0.0, f64::from(MAX_TOP_K), false)?;
        within("top_p", self.top_p, 0.0, 1.0, true)?;
        within("length_penalty", self.length_penalty, -10.0, 10.0, false)?;
        within(
            "no_repeat_ngram_size",
            int(self.no_repeat_ngram_size),
            0.0,
            64.0,
            false,
        )?;
        within(
            "repetition_penalty",
            self.repetition_penalty,
            MIN_REPETITION_PENALTY,
            10.0,
            false,
        )?;
        within(
            "min_new_tokens",
            int(self.min_new_tokens),
            0.0,
            f64::from(MAX_NEW_TOKENS),
            false,
        )?;
        within(
            "max_new_tokens",
            int(self.max_new_tokens),
            1.0,
            f64::from(MAX_NEW_TOKENS),
            false,
        )?;
        if let (Some(min), Some(max)) = (self.min_new_tokens, self.max_new_tokens)
            && min > max
        {
            return Err(Refusal::new(
                ErrorCode::InvalidParameter,
                format!("params.min_new_tokens ({min}) must not exceed params.max_new_tokens ({max})"),
            ));
        }
        Ok(())
    }

    /// Returns `self` with missing parameters taken from `defaults`. A default minimum length never exceeds the maximum
    /// that `self` sets.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        Self {
            num_beams: self.num_beams.or(defaults.num_beams),
            do_sample: self.do_sample.or(defaults.do_sample),
            temperature: self.temperature.or(defaults.temperature),
            top_k: self.top_k.or(defaults.top_k),
            top_p: self.top_p.or(defaults.top_p),
            length_penalty: self.length_penalty.or(defaults.length_penalty),
            early_stopping: self.early_stopping.or(defaults.early_stopping),
            no_repeat_ngram_size: self.no_repeat_ngram_size.or(defaults.no_repeat_ngram_size),
            repetition_penalty: self.repetition_penalty.or(defaults.repetition_penalty),
            min_new_tokens: self.min_new_tokens.or_else(|| {
                let most = self.max_new_tokens.unwrap_or(u32::MAX);
                defaults.min_new_tokens.map(|least| least.min(most))
            }),
            max_new_tokens: self.max_new_tokens.or(defaults.max_new_tokens),
            seed: self.seed.or(defaults.seed),
            first_sentence: self.first_sentence.or(defaults.first_sentence),
            long_text: self.long_text.or(defaults.long_text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_are_listed() {
        let schema = schemars::schema_for!(GenerationParams);
        let properties = schema
            .get("properties")
            .and_then(|properties| properties.as_object());
        let mut listed = GenerationParams::NAMES.to_vec();
        listed.sort_unstable();
        let mut fields: Vec<&str> = properties.unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(listed, fields);
    }

    fn refused(json: &str) -> String {
        serde_json::from_str::<GenerationParams>(json)
            .unwrap()
            .validate()
            .unwrap_err()
            .message
    }

    #[test]
    fn errors_name_the_parameter_and_its_bounds() {
        assert_eq!(
            refused(r#"{"num_beams":65}"#),
            "params.num_beams must be at least 1 and at most 64, not 65"
        );
        assert!(refused(r#"{"temperature":0}"#).contains("temperature must be at least 0.001"));
        // As f32, this divides logits into infinities.
        assert!(refused(r#"{"temperature":1e-39}"#).contains("temperature must be at least 0.001"));
        assert!(
            refused(r#"{"repetition_penalty":1e-39}"#).contains("repetition_penalty must be at least 0.01")
        );
        assert!(refused(r#"{"top_p":0}"#).contains("top_p must be above 0"));
        assert!(refused(r#"{"top_p":1.5}"#).contains("top_p"));
        assert!(refused(r#"{"min_new_tokens":20,"max_new_tokens":10}"#).contains("must not exceed"));
        assert!(GenerationParams::default().validate().is_ok());
    }

    #[test]
    fn bounds_in_the_schema_are_those_of_the_code() {
        let schema = serde_json::to_value(schemars::schema_for!(GenerationParams)).unwrap();
        let valid = |name: &str, value: serde_json::Value| {
            let params = serde_json::json!({ name: value });
            serde_json::from_value::<GenerationParams>(params).is_ok_and(|params| params.validate().is_ok())
        };
        let mut checked = 0;
        for (name, property) in schema["properties"].as_object().unwrap() {
            // Any seed of 64 bits is valid, and the format says so.
            let numeric = property["type"].as_array().and_then(|types| types[0].as_str());
            let (Some(kind @ ("integer" | "number")), false) = (numeric, name == "seed") else {
                continue;
            };
            let step = if kind == "integer" { 1.0 } else { 1e-6 };
            let sent = |value: f64| match kind {
                "integer" => serde_json::json!(value as i64),
                _ => serde_json::json!(value),
            };
            let maximum = property["maximum"].as_f64().unwrap_or_else(|| panic!("{name}"));
            assert!(valid(name, sent(maximum)), "{name}");
            assert!(!valid(name, sent(maximum + step)), "{name}");
            if let Some(minimum) = property["minimum"].as_f64() {
                assert!(valid(name, sent(minimum)), "{name}");
                assert!(!valid(name, sent(minimum - step)), "{name}");
            } else {
                let minimum = property["exclusiveMinimum"].as_f64().unwrap();
                assert!(!valid(name, sent(minimum)), "{name}");
                assert!(valid(name, sent(minimum + step)), "{name}");
            }
            checked += 1;
        }
        assert_eq!(checked, 9);
    }

    #[test]
    fn early_stopping_and_long_text_accept_only_their_values() {
        for text in [
            r#"{"early_stopping":true}"#,
            r#"{"early_stopping":"never"}"#,
            r#"{"long_text":"map_reduce"}"#,
            r#"{"long_text":"truncate"}"#,
        ] {
            let params: GenerationParams = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&params).unwrap(), text);
        }
        for text in [
            r#"{"early_stopping":"soon"}"#,
            r#"{"early_stopping":1}"#,
            r#"{"long_text":"cut"}"#,
        ] {
            assert!(serde_json::from_str::<GenerationParams>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_an_error() {
        let error = serde_json::from_str::<GenerationParams>(r#"{"num_beans":8}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("num_beans"), "{error}");
    }

    #[test]
    fn missing_parameters_come_from_the_defaults() {
        let defaults = GenerationParams {
            num_beams: Some(8),
            seed: Some(1),
            ..Default::default()
        };
        let own = GenerationParams {
            num_beams: Some(2),
            ..Default::default()
        };
        let merged = own.or(&defaults);
        assert_eq!(
            (merged.num_beams, merged.seed, merged.top_k),
            (Some(2), Some(1), None)
        );
    }

    #[test]
    fn a_default_minimum_never_contradicts_the_given_maximum() {
        let defaults = GenerationParams {
            min_new_tokens: Some(9),
            max_new_tokens: Some(63),
            ..Default::default()
        };
        let lengths = |min_new_tokens, max_new_tokens| {
            let own = GenerationParams {
                min_new_tokens,
                max_new_tokens,
                ..Default::default()
            };
            let merged = own.or(&defaults);
            (merged.min_new_tokens, merged.max_new_tokens)
        };
        assert_eq!(lengths(None, Some(5)), (Some(5), Some(5)));
        assert_eq!(lengths(None, Some(80)), (Some(9), Some(80)));
        assert_eq!(lengths(None, None), (Some(9), Some(63)));
        // What the request says stays.
        assert_eq!(lengths(Some(7), Some(5)), (Some(7), Some(5)));
    }
}
