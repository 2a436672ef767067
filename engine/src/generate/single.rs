//! Greedy search and plain sampling: one sequence per request.

use super::params::GenerationParams;
use super::random::RowRng;
use super::scores::{Processors, arg_max, log_sum_exp};

/// The sequence of one request.
#[derive(Debug)]
pub(crate) struct SingleSearch {
    max_new_tokens: usize,
    length_penalty: f64,
    eos: Vec<u32>,
    processors: Processors,
    /// `None` is greedy.
    rng: Option<RowRng>,
    /// With the start token.
    tokens: Vec<u32>,
    /// Sum of the log-probabilities that the model itself gave to the tokens.
    log_probability: f64,
}

impl SingleSearch {
    /// A search that begins with the token `start`.
    pub(crate) fn new(params: &GenerationParams, start: u32, eos: &[u32], rng: Option<RowRng>) -> Self {
        Self {
            max_new_tokens: params.max_new_tokens,
            length_penalty: params.length_penalty,
            eos: eos.to_vec(),
            processors: Processors::new(params, eos),
            rng,
            tokens: vec![start],
            log_probability: 0.0,
        }
    }

    /// Takes the logits of a step, [vocab_size]. Tells whether to go on.
    pub(crate) fn advance(&mut self, logits: &mut [f32]) -> bool {
        let original = logits.to_vec();
        self.processors.apply(&self.tokens, logits);
        let chosen = match &mut self.rng {
            Some(rng) => rng.draw(logits),
            None => arg_max(logits),
        };
        self.log_probability += f64::from(original[chosen] - log_sum_exp(&original));
        let token = chosen as u32;
        self.tokens.push(token);
        !self.eos.contains(&token) && self.tokens.len() <= self.max_new_tokens
    }

    /// The sequence so far, start token included, and its score: log-probability / length^length_penalty, as a beam's.
    pub(crate) fn result(&self) -> (&[u32], f32) {
        let length = (self.tokens.len() - 1).max(1) as f64;
        (
            &self.tokens,
            (self.log_probability / length.powf(self.length_penalty)) as f32,
        )
    }
}
