//! Greedy search and plain sampling: one sequence per request.

use super::logits::{RowLogits, Wanted};
use super::params::GenerationParams;
use super::random::RowRng;
use super::scores::Processors;

/// The sequence of one request.
#[derive(Debug)]
pub(crate) struct SingleSearch {
    max_new_tokens: usize,
    length_penalty: f64,
    eos: Vec<u32>,
    processors: Processors,
    /// `None` means greedy.
    rng: Option<RowRng>,
    /// Includes the start token.
    tokens: Vec<u32>,
    /// Sum of the tokens' unprocessed log-probabilities.
    log_probability: f64,
}

impl SingleSearch {
    /// Starts a search with the token `start`.
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

    /// Returns whether the search always takes the highest score. Drafts can then be verified.
    pub(crate) fn is_greedy(&self) -> bool {
        self.rng.is_none()
    }

    /// Returns what the search needs of the logits after the tokens so far and `drafts`, and the banned ids.
    pub(crate) fn wanted(&self, drafts: &[u32], vocabulary: usize) -> (Wanted, Vec<u32>) {
        let wanted = self.processors.wanted(1, vocabulary);
        let banned = match drafts {
            [] => self.processors.banned(&self.tokens),
            drafts => self.processors.banned(&[&self.tokens, drafts].concat()),
        };
        (wanted, banned)
    }

    /// Consumes the logits of a step. Returns whether to continue.
    pub(crate) fn advance(&mut self, logits: &RowLogits) -> bool {
        let candidates = self.processors.candidates(&self.tokens, logits, false, 1);
        let chosen = match &mut self.rng {
            Some(rng) => {
                let scores: Vec<f32> = candidates.iter().map(|(_, score)| *score).collect();
                candidates.get(rng.draw(&scores))
            }
            None => candidates.first(),
        };
        // Every id is banned, so the sequence cannot continue.
        let Some((token, score)) = chosen.copied() else {
            return false;
        };
        // The model's unprocessed score.
        let original = match logits.highest() {
            Some(highest) => highest
                .iter()
                .find(|(_, id)| *id == token)
                .map_or(score, |(score, _)| *score),
            None => logits.all()[token as usize],
        };
        self.log_probability += f64::from(original - logits.log_sum_exp());
        self.tokens.push(token);
        !self.eos.contains(&token) && self.tokens.len() <= self.max_new_tokens
    }

    /// Returns the maximum number of tokens that can still follow.
    pub(crate) fn room(&self) -> usize {
        (self.max_new_tokens + 1).saturating_sub(self.tokens.len())
    }

    /// Returns the sequence so far, including the start token, and its score: log-probability / length^length_penalty.
    pub(crate) fn result(&self) -> (&[u32], f32) {
        let length = (self.tokens.len() - 1).max(1) as f64;
        (
            &self.tokens,
            (self.log_probability / length.powf(self.length_penalty)) as f32,
        )
    }
}
