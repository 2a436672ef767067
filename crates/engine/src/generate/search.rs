//! The search of one request, of any kind.

use super::beam::BeamSearch;
use super::logits::{RowLogits, Wanted};
use super::params::GenerationParams;
use super::random::RowRng;
use super::single::SingleSearch;

/// The search of one request: a number of decoder rows with one token each per step.
#[derive(Debug)]
pub(crate) enum Search {
    /// One row.
    Single(SingleSearch),
    /// `num_beams` rows.
    Beam(BeamSearch),
}

impl Search {
    /// Creates the search that `params` describe. It continues `prompt`, which is the start token of an encoder-decoder
    /// model, and the whole input of a decoder-only one. `seed` applies to sampling only.
    pub(crate) fn new(params: &GenerationParams, prompt: &[u32], eos: &[u32], seed: u64) -> Self {
        let rng = params.do_sample.then(|| RowRng::new(seed));
        if params.num_beams == 1 {
            Self::Single(SingleSearch::new(params, prompt, eos, rng))
        } else {
            Self::Beam(BeamSearch::new(params, prompt, eos, rng))
        }
    }

    /// Returns the decoder rows of the next step.
    pub(crate) fn rows(&self, vocabulary: usize) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Beam(search) => search.rows(vocabulary),
        }
    }

    /// Returns the last token of a row.
    pub(crate) fn last_token(&self, row: usize) -> u32 {
        match self {
            Self::Single(search) => search.last_token(),
            Self::Beam(search) => search.last_token(row),
        }
    }

    /// Returns what the search needs of a row's logits, and the banned ids. `drafts` are tokens assumed to follow.
    pub(crate) fn wanted(&self, row: usize, drafts: &[u32], vocabulary: usize) -> (Wanted, Vec<u32>) {
        match self {
            Self::Single(search) => search.wanted(drafts, vocabulary),
            Self::Beam(search) => search.wanted(row, vocabulary),
        }
    }

    /// Consumes the logits of a step, one entry per row. Returns the parent row of each row of the next step, or `None`
    /// at the end.
    pub(crate) fn advance(&mut self, logits: &[RowLogits]) -> Option<Vec<usize>> {
        match self {
            Self::Single(search) => search.advance(&logits[0]).then(|| vec![0]),
            Self::Beam(search) => search.advance(logits),
        }
    }

    /// Returns how many tokens may be drafted for a greedy search, or `None` for other searches.
    pub(crate) fn draft_room(&self) -> Option<usize> {
        match self {
            Self::Single(search) if search.is_greedy() => Some(search.room()),
            Self::Single(_) | Self::Beam(_) => None,
        }
    }

    /// [`Search::advance`] for a search with one row. Returns whether it continues.
    pub(crate) fn advance_one(&mut self, logits: &RowLogits) -> bool {
        match self {
            Self::Single(search) => search.advance(logits),
            Self::Beam(search) => search.advance(std::slice::from_ref(logits)).is_some(),
        }
    }

    /// Returns the new tokens of the best sequence so far, for progress events.
    pub(crate) fn tokens_so_far(&self) -> &[u32] {
        match self {
            Self::Single(search) => search.result().0,
            Self::Beam(search) => search.running(0),
        }
    }

    /// Returns the new tokens of the resulting sequences, with their scores, best first.
    pub(crate) fn results(&self, count: usize) -> Vec<(Vec<u32>, f32)> {
        let owned = |(tokens, score): (&[u32], f32)| (tokens.to_vec(), score);
        match self {
            Self::Single(search) => vec![owned(search.result())],
            Self::Beam(search) => search.results(count).map(owned).collect(),
        }
    }
}
