//! Beam search and beam sampling of one request, as `_beam_search` of transformers 5 does it.

use super::logits::{RowLogits, Wanted};
use super::params::{EarlyStopping, GenerationParams};
use super::random::RowRng;
use super::scores::Processors;

/// Stands for "not possible" in sums; finite, so that what is not possible still has an order.
const IMPOSSIBLE: f32 = -1e9;

/// A hypothesis that may be the result.
#[derive(Debug, Clone)]
struct Hypothesis {
    /// With the start token.
    tokens: Vec<u32>,
    /// Log-probability / length^length_penalty.
    score: f32,
    finished: bool,
}

/// The beams of one request.
#[derive(Debug)]
pub(crate) struct BeamSearch {
    beams: usize,
    max_new_tokens: usize,
    length_penalty: f64,
    early_stopping: EarlyStopping,
    eos: Vec<u32>,
    processors: Processors,
    /// `None` does not sample.
    rng: Option<RowRng>,
    /// Running sequences with the start token, and their summed log-probabilities, best first.
    running: Vec<(Vec<u32>, f32)>,
    /// The best `beams` hypotheses so far, best first; unfinished ones fill the places at the beginning.
    best: Vec<Hypothesis>,
    improvable: bool,
}

/// A continuation: which running beam it goes on from, by which token, and its summed log-probability.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    beam: usize,
    token: u32,
    score: f32,
    /// It ends here: by an end token, or because there is no room for more.
    ends: bool,
}

impl BeamSearch {
    /// A search that begins with the token `start`.
    pub(crate) fn new(params: &GenerationParams, start: u32, eos: &[u32], rng: Option<RowRng>) -> Self {
        let beams = params.num_beams;
        let score = |beam: usize| if beam == 0 { 0.0 } else { IMPOSSIBLE };
        let nothing = Hypothesis {
            tokens: vec![start],
            score: IMPOSSIBLE,
            finished: false,
        };
        Self {
            beams,
            max_new_tokens: params.max_new_tokens,
            length_penalty: params.length_penalty,
            early_stopping: params.early_stopping,
            eos: eos.to_vec(),
            processors: Processors::new(params, eos),
            rng,
            // Only the first beam counts at the first step, or all would be the same.
            running: (0..beams).map(|beam| (vec![start], score(beam))).collect(),
            best: vec![nothing; beams],
            improvable: true,
        }
    }

    /// Continuations that a step looks at: so many that `beams` are left to go on with even if every end token is
    /// among them.
    fn count(&self) -> usize {
        (1 + self.eos.len()).max(2) * self.beams
    }

    /// Decoder rows of the next step. At the first one all beams would be the same, and only one of them counts.
    pub(crate) fn rows(&self, vocabulary: usize) -> usize {
        let first = self.running[0].0.len() == 1;
        match first && self.processors.has_at_least(self.count(), vocabulary) {
            true => 1,
            false => self.beams,
        }
    }

    /// What is needed of a row's logits, and which ids may not follow.
    pub(crate) fn wanted(&self, row: usize, vocabulary: usize) -> (Wanted, Vec<u32>) {
        let banned = self.processors.banned(&self.running[row].0);
        (self.processors.wanted(self.count(), vocabulary), banned)
    }

    /// Takes the logits of a step, by row. Gives the row that each beam goes on from, or nothing when the search is
    /// done.
    pub(crate) fn advance(&mut self, logits: &[RowLogits]) -> Option<Vec<usize>> {
        let candidates = self.candidates(logits);
        // Every id of every beam is banned: nothing can follow, and nothing becomes better.
        if candidates.is_empty() {
            return None;
        }
        let new_tokens = self.running[0].0.len();
        self.finish(&candidates, new_tokens);

        let mut order: Vec<Candidate> = candidates.clone();
        for candidate in order.iter_mut().filter(|candidate| candidate.ends) {
            candidate.score += IMPOSSIBLE;
        }
        order.sort_by(|a, b| b.score.total_cmp(&a.score));
        order.truncate(self.beams);
        self.running = order
            .iter()
            .map(|candidate| (self.sequence(candidate), candidate.score))
            .collect();

        self.improvable &= self.can_improve(new_tokens);
        let full =
            self.early_stopping == EarlyStopping::FirstBeams && self.best.iter().all(|best| best.finished);
        let dead_end = candidates.iter().all(|candidate| candidate.ends);
        if !self.improvable || full || dead_end {
            return None;
        }
        Some(order.iter().map(|candidate| candidate.beam).collect())
    }

    /// The continuations that are looked at, best first (or in the order of drawing).
    fn candidates(&mut self, logits: &[RowLogits]) -> Vec<Candidate> {
        let count = self.count();
        let at_limit = self.running[0].0.len() >= self.max_new_tokens;
        let mut all: Vec<Candidate> = Vec::new();
        for (beam, (row, (tokens, sum))) in logits.iter().zip(&self.running).enumerate() {
            let own = self.processors.candidates(tokens, row, true, count);
            all.extend(own.into_iter().map(|(token, score)| Candidate {
                beam,
                token,
                score: score + sum,
                ends: at_limit || self.eos.contains(&token),
            }));
        }
        match &mut self.rng {
            Some(rng) => {
                let scores: Vec<f32> = all.iter().map(|candidate| candidate.score).collect();
                let drawn = rng.draw_several(&scores, count);
                drawn.into_iter().map(|(index, _)| all[index]).collect()
            }
            None => {
                // Rows come in order, and so do equal scores of a row: a stable sort keeps the lower id first.
                all.sort_by(|a, b| b.score.total_cmp(&a.score));
                all.truncate(count);
                all
            }
        }
    }

    /// Puts candidates that end, and are among the first `beams`, where they belong among the best. `new_tokens` is
    /// their length without the start token.
    fn finish(&mut self, candidates: &[Candidate], new_tokens: usize) {
        let length = (new_tokens as f64).powf(self.length_penalty) as f32;
        for candidate in candidates
            .iter()
            .take(self.beams)
            .filter(|candidate| candidate.ends)
        {
            let score = candidate.score / length;
            // As the sum of penalties in transformers: below everything that counts.
            if score > IMPOSSIBLE {
                let tokens = self.sequence(candidate);
                let place = self.best.partition_point(|other| other.score >= score);
                self.best.insert(
                    place,
                    Hypothesis {
                        tokens,
                        score,
                        finished: true,
                    },
                );
                self.best.truncate(self.beams);
            }
        }
    }

    fn sequence(&self, candidate: &Candidate) -> Vec<u32> {
        let mut tokens = self.running[candidate.beam].0.clone();
        tokens.push(candidate.token);
        tokens
    }

    /// Whether the best running beam may still become better than the worst of the best.
    fn can_improve(&self, new_tokens: usize) -> bool {
        let to_the_end = self.early_stopping == EarlyStopping::Never && self.length_penalty > 0.0;
        let length = if to_the_end {
            self.max_new_tokens
        } else {
            new_tokens
        };
        let hope = self.running[0].1 / (length as f64).powf(self.length_penalty) as f32;
        let worst = self.best.last().map_or(IMPOSSIBLE, |best| best.score);
        // A place that nothing finished yet has taken is worth nothing.
        self.best
            .iter()
            .any(|best| hope > if best.finished { worst } else { IMPOSSIBLE })
    }

    /// The `count` best sequences so far, best first, start token included, with their scores.
    pub(crate) fn results(&self, count: usize) -> impl Iterator<Item = (&[u32], f32)> {
        let best = self.best.iter().take(count);
        best.map(|best| (best.tokens.as_slice(), best.score))
    }

    /// A running sequence, start token included; the first is the best.
    pub(crate) fn running(&self, beam: usize) -> &[u32] {
        &self.running[beam].0
    }
}
