//! Generation parameters and their bounds.

use crate::error::ParamError;

/// Maximum beams per request.
pub const MAX_BEAMS: usize = 64;
/// Maximum new tokens per request.
pub const MAX_NEW_TOKENS: usize = 512;
/// Minimum temperature. Dividing logits by a much smaller one overflows.
const MIN_TEMPERATURE: f64 = 0.001;
/// Minimum repetition penalty. Dividing logits by a much smaller one overflows.
const MIN_REPETITION_PENALTY: f64 = 0.01;
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
    /// Divides the scores before sampling. 0.001 to 100.
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
    /// Divides positive and multiplies negative scores of tokens that already occur. 1 has no effect. 0.01 to
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
        let within = |field, value: f64, low: f64, high: f64| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(ParamError {
                field,
                bounds: format!("at least {low} and at most {high}"),
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
        within("temperature", self.temperature, MIN_TEMPERATURE, 100.0)?;
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(ParamError {
                field: "top_p",
                bounds: "above 0 and at most 1".to_owned(),
                value: self.top_p.to_string(),
            });
        }
        within("length_penalty", self.length_penalty, -10.0, 10.0)?;
        whole("no_repeat_ngram_size", self.no_repeat_ngram_size, 0, 64)?;
        within(
            "repetition_penalty",
            self.repetition_penalty,
            MIN_REPETITION_PENALTY,
            10.0,
        )?;
        whole("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)?;
        whole("min_new_tokens", self.min_new_tokens, 0, self.max_new_tokens)
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
            "num_beams must be at least 1 and at most 64, not 0"
        );
        assert_eq!(
            message(|p| p.temperature = 0.0),
            "temperature must be at least 0.001 and at most 100, not 0"
        );
        assert_eq!(
            message(|p| p.top_p = f64::NAN),
            "top_p must be above 0 and at most 1, not NaN"
        );
        assert_eq!(
            message(|p| p.length_penalty = 11.0),
            "length_penalty must be at least -10 and at most 10, not 11"
        );
        assert_eq!(
            message(|p| p.repetition_penalty = -1.0),
            "repetition_penalty must be at least 0.01 and at most 10, not -1"
        );
        for tiny in [1e-39, 1e-4] {
            assert!(message(|p| p.temperature = tiny).contains("at least 0.001"));
            assert!(message(|p| p.repetition_penalty = tiny).contains("at least 0.01"));
        }
        assert_eq!(
            message(|p| p.max_new_tokens = 0),
            "max_new_tokens must be at least 1 and at most 512, not 0"
        );
        assert_eq!(
            message(|p| p.min_new_tokens = 64),
            "min_new_tokens must be at least 0 and at most 63, not 64"
        );
        assert!(
            GenerationParams::default()
                .with_lengths(10, 64)
                .validate()
                .is_ok()
        );
    }
}
