//! From encoded texts to token ids: greedy search, sampling, beam search and beam sampling, as transformers'
//! `generate` does them.
//!
//! One batch is one decoder loop in lockstep: rows with different parameters and numbers of beams take their step
//! together, a row that is finished or taken out leaves at once, and no row sees another's numbers.

mod batch;
mod beam;
mod params;
mod random;
mod scores;
mod search;
mod single;

use std::time::Duration;

pub(crate) use batch::{Job, Outcome, run};
pub(crate) use params::GenerationDefaults;
pub use params::{EarlyStopping, GenerationParams, MAX_BEAMS, MAX_NEW_TOKENS, ParamError};

use crate::tokenize::Encoded;

/// One row of a batch: an encoded text and how to go on from it.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// The text, as [`Engine::tokenize`](crate::Engine::tokenize) gives it.
    pub encoded: Encoded,
    /// How the tokens are chosen.
    pub params: GenerationParams,
}

/// What one row of a batch came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The text, without special tokens and without white space around it.
    pub text: String,
    /// The new token ids, with the end token if it was reached.
    pub ids: Vec<u32>,
    /// Log-probability of the ids divided by their number to the power `length_penalty`. For beams as transformers
    /// gives it (`sequences_scores`); for a single sequence by the model's own, unprocessed probabilities.
    pub score: f32,
    /// Why it ended.
    pub finish: FinishReason,
    /// The seed that was sampled with; nothing if no sampling was asked for.
    pub seed: Option<u64>,
    /// How long it took.
    pub timings: Timings,
    /// Share of the encoder's work for the whole batch that was padding, 0 to 1.
    pub padding_ratio: f64,
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model wrote its end token.
    Eos,
    /// It came to `max_new_tokens`.
    Length,
}

impl FinishReason {
    /// `eos` or `length`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Length => "length",
        }
    }
}

/// Wall-clock time of the parts of the work. A batch does its parts together, so that the rows of a batch share the
/// first, and have the second up to their own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// The encoder and the cross-attention caches of the whole batch (prefill).
    pub encode: Duration,
    /// From the first decode step of the batch to the last of this row.
    pub decode: Duration,
}

/// Watches a batch between decode steps, and takes rows out of it.
pub trait BatchObserver: Send {
    /// Called for every row before anything is computed (`step` 0), and after every decode step for every row that
    /// would go on. `row` is the index of the request in the batch, `step` the number of steps done, and `tokens` the
    /// new tokens of the sequence that is best so far.
    fn keep(&mut self, row: usize, step: usize, tokens: &[u32]) -> RowDecision;
}

/// Lets every row run to its end.
impl BatchObserver for () {
    fn keep(&mut self, _row: usize, _step: usize, _tokens: &[u32]) -> RowDecision {
        RowDecision::Continue
    }
}

/// What an observer wants of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowDecision {
    /// The row goes on.
    Continue,
    /// The row leaves the batch before the next step; its result is
    /// [`RowError::Cancelled`](crate::RowError::Cancelled) with this reason.
    Cancel(String),
}
