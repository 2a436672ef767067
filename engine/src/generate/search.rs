//! The search of one request, whatever its kind.

use super::beam::BeamSearch;
use super::params::GenerationParams;
use super::random::RowRng;
use super::single::SingleSearch;

/// The search of one request: so many decoder rows, one token each per step.
#[derive(Debug)]
pub(crate) enum Search {
    /// One row.
    Single(SingleSearch),
    /// `num_beams` rows.
    Beam(BeamSearch),
}

impl Search {
    /// The search that `params` ask for, begun with `start`. `seed` counts only when sampling.
    pub(crate) fn new(params: &GenerationParams, start: u32, eos: &[u32], seed: u64) -> Self {
        let rng = params.do_sample.then(|| RowRng::new(seed));
        if params.num_beams == 1 {
            Self::Single(SingleSearch::new(params, start, eos, rng))
        } else {
            Self::Beam(BeamSearch::new(params, start, eos, rng))
        }
    }

    /// The last token of every row.
    pub(crate) fn push_last_tokens(&self, tokens: &mut Vec<u32>) {
        match self {
            Self::Single(search) => tokens.extend(search.result().0.last()),
            Self::Beam(search) => tokens.extend(search.last_tokens()),
        }
    }

    /// Takes the logits of a step, [rows, vocab_size]. Gives the row that each row goes on from, or nothing when the
    /// search is done.
    pub(crate) fn advance(&mut self, logits: &mut [f32]) -> Option<Vec<usize>> {
        match self {
            Self::Single(search) => search.advance(logits).then(|| vec![0]),
            Self::Beam(search) => search.advance(logits),
        }
    }

    /// The best sequence so far without the start token, for those who watch.
    pub(crate) fn tokens_so_far(&self) -> &[u32] {
        match self {
            Self::Single(search) => &search.result().0[1..],
            Self::Beam(search) => &search.tokens_so_far()[1..],
        }
    }

    /// The result without the start token, and its score.
    pub(crate) fn result(&self) -> (&[u32], f32) {
        let (tokens, score) = match self {
            Self::Single(search) => search.result(),
            Self::Beam(search) => search.result(),
        };
        (&tokens[1..], score)
    }
}
