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
    /// The prompt and the new tokens.
    tokens: Vec<u32>,
    /// Number of tokens in the prompt.
    prompt: usize,
    /// Sum of the tokens' unprocessed log-probabilities.
    log_probability: f64,
}

impl SingleSearch {
    /// Starts a search after a prompt of at least one token.
    pub(crate) fn new(params: &GenerationParams, prompt: &[u32], eos: &[u32], rng: Option<RowRng>) -> Self {
        Self {
            max_new_tokens: params.max_new_tokens,
            length_penalty: params.length_penalty,
            eos: eos.to_vec(),
            processors: Processors::new(params, eos, prompt.len()),
            rng,
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
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
        !self.eos.contains(&token) && self.room() > 0
    }

    /// Returns the maximum number of tokens that can still follow.
    pub(crate) fn room(&self) -> usize {
        (self.max_new_tokens + self.prompt).saturating_sub(self.tokens.len())
    }

    /// Returns the last token, which is the prompt's at the beginning.
    pub(crate) fn last_token(&self) -> u32 {
        self.tokens[self.tokens.len() - 1]
    }

    /// Returns the new tokens so far, and their score: log-probability / length^length_penalty.
    pub(crate) fn result(&self) -> (&[u32], f32) {
        let new = &self.tokens[self.prompt..];
        let length = new.len().max(1) as f64;
        (
            new,
            (self.log_probability / length.powf(self.length_penalty)) as f32,
        )
    }
}
