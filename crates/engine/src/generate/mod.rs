//! How tokens are chosen: greedy search, sampling, beam search and beam sampling, as transformers' `generate` does
//! them. A search sees the logits of its own rows and nothing else.

mod beam;
mod logits;
mod params;
mod random;
mod scores;
mod search;
mod single;
mod stop;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use logits::{RowLogits, Wanted};
pub(crate) use params::GenerationDefaults;
pub use params::{EarlyStopping, GenerationParams, MAX_BEAMS, MAX_NEW_TOKENS, ParamError};
pub(crate) use search::Search;
pub use stop::StopRule;

use crate::tokenize::Encoded;

/// An encoded text and how to go on from it.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// The text, as [`Engine::tokenize`](crate::Engine::tokenize) gives it.
    pub encoded: Encoded,
    /// How the tokens are chosen.
    pub params: GenerationParams,
    /// When a text is long enough, for a search with one sequence (greedy search, plain sampling). Beams run to their
    /// end: which of them is best shows only there.
    pub stop: Option<StopRule>,
}

impl GenerateRequest {
    /// A request that runs to its end.
    pub fn new(encoded: Encoded, params: GenerationParams) -> Self {
        Self {
            encoded,
            params,
            stop: None,
        }
    }
}

/// What a request came to.
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
    /// The next best sequences, if `num_return_sequences` asked for more than one; best first.
    pub alternatives: Vec<Alternative>,
    /// The seed that was sampled with; nothing if no sampling was asked for.
    pub seed: Option<u64>,
    /// A vector of `d_model` that stands for the meaning of the input: the mean of its encoder states.
    pub embedding: Arc<[f32]>,
    /// How long it took.
    pub timings: Timings,
    /// Decode steps that it was part of. Fewer than tokens where guesses were right.
    pub steps: usize,
    /// Whether the encoder had read the text already, for another request.
    pub reused_encoder: bool,
}

/// Another sequence of the same request.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// As [`Generated::text`].
    pub text: String,
    /// As [`Generated::ids`].
    pub ids: Vec<u32>,
    /// As [`Generated::score`].
    pub score: f32,
    /// As [`Generated::finish`].
    pub finish: FinishReason,
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model wrote its end token.
    Eos,
    /// It came to `max_new_tokens`.
    Length,
    /// Its [`StopRule`] found the text long enough.
    Stop,
}

impl FinishReason {
    /// `eos`, `length` or `stop`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Length => "length",
            Self::Stop => "stop",
        }
    }
}

/// Wall-clock time of the parts of the work. Requests are decoded together, so that their times overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From submission until a compute thread took it up.
    pub wait: Duration,
    /// The encoder and the cross-attention caches (prefill), of all texts that were read together with this one.
    pub encode: Duration,
    /// From the first decode step to the last.
    pub decode: Duration,
}

/// Watches the requests of one call between decode steps, and takes some of them out.
pub trait BatchObserver: Send {
    /// Called for every row before anything is computed (`step` 0), and after decode steps for every row that would go
    /// on. `row` is the index of the request in the call, `step` the number of its new tokens, and `tokens` those of the
    /// sequence that is best so far.
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
