//! Token selection: greedy search, sampling, beam search and beam sampling, equal to transformers' `generate`. A search
//! sees only the logits of its own rows.

mod beam;
mod defaults;
mod logits;
mod params;
mod random;
mod scores;
mod search;
mod single;
mod stop;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use defaults::GenerationDefaults;
pub(crate) use logits::{RowLogits, Wanted};
pub use params::{EarlyStopping, GenerationParams, MAX_BEAMS, MAX_NEW_TOKENS};
pub(crate) use search::Search;
pub use stop::StopRule;

use crate::tokenize::Encoded;

/// An encoded text with its generation parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// The text, as encoded by [`Engine::tokenize`](crate::Engine::tokenize).
    pub encoded: Encoded,
    /// The generation parameters.
    pub params: GenerationParams,
    /// Ends the text early, for searches with one sequence (greedy search, plain sampling). Beam search ignores it,
    /// because only its end shows which beam is best.
    pub stop: Option<StopRule>,
}

impl GenerateRequest {
    /// Creates a request without a stop rule.
    pub fn new(encoded: Encoded, params: GenerationParams) -> Self {
        Self {
            encoded,
            params,
            stop: None,
        }
    }
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The text, without special tokens and surrounding white space.
    pub text: String,
    /// The new token ids, including the end token if the model produced it.
    pub ids: Vec<u32>,
    /// Log-probability of the ids divided by length^length_penalty. For beams this is transformers' `sequences_scores`.
    /// For a single sequence it uses the model's unprocessed probabilities.
    pub score: f32,
    /// Why generation ended.
    pub finish: FinishReason,
    /// Further sequences if `num_return_sequences` is above 1, best first.
    pub alternatives: Vec<Alternative>,
    /// The seed of the sampling, or `None` without sampling.
    pub seed: Option<u64>,
    /// An embedding of the input: the mean of its encoder states, `d_model` wide. Empty for decoder-only models.
    pub embedding: Arc<[f32]>,
    /// Time spent.
    pub timings: Timings,
    /// Decoding steps. Fewer than tokens if drafts were accepted.
    pub steps: usize,
    /// Whether cached encoder states were used.
    pub reused_encoder: bool,
}

/// A further sequence of the same request.
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
    /// The model produced its end token.
    Eos,
    /// The text reached `max_new_tokens`.
    Length,
    /// Its [`StopRule`] ended the text.
    Stop,
}

impl FinishReason {
    /// Returns `eos`, `length` or `stop`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Length => "length",
            Self::Stop => "stop",
        }
    }
}

/// Wall-clock time per stage. Requests are decoded together, so their times overlap. A request that joined an equal one
/// has only the time since then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From submission until a compute thread took the request.
    pub wait: Duration,
    /// Prefill: encoder and cross-attention keys and values, of all texts in the same prefill. A decoder-only model
    /// reads its prompt up to the first token.
    pub encode: Duration,
    /// From the first decoding step to the last.
    pub decode: Duration,
}

impl Timings {
    /// Returns the times of a request that joined this one `late` after its submission.
    pub(crate) fn since(self, late: Duration) -> Self {
        let late_in_encode = late.saturating_sub(self.wait);
        Self {
            wait: self.wait.saturating_sub(late),
            encode: self.encode.saturating_sub(late_in_encode),
            decode: self
                .decode
                .saturating_sub(late_in_encode.saturating_sub(self.encode)),
        }
    }
}

/// Observes the requests of one call between decoding steps, and may cancel rows.
pub trait BatchObserver: Send {
    /// Called for every row before any computation (`step` 0), and after decoding steps for every row that continues.
    /// `row` is the request's index in the call, `step` its number of new tokens, and `tokens` its best sequence so
    /// far.
    fn keep(&mut self, row: usize, step: usize, tokens: &[u32]) -> RowDecision;
}

/// Continues every row.
impl BatchObserver for () {
    fn keep(&mut self, _row: usize, _step: usize, _tokens: &[u32]) -> RowDecision {
        RowDecision::Continue
    }
}

/// An observer's decision about a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowDecision {
    /// Continue.
    Continue,
    /// Remove the row before the next step. Its result is [`RowError::Cancelled`](crate::RowError::Cancelled) with this
    /// reason.
    Cancel(String),
}
