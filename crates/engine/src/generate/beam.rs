//! Beam search and beam sampling of one request, equal to `_beam_search` of transformers 5.

use super::logits::{RowLogits, Wanted};
use super::params::{EarlyStopping, GenerationParams};
use super::random::RowRng;
use super::scores::Processors;

/// Score of an impossible candidate. transformers uses -1e9, which real scores can fall below: a length penalty of -10
/// multiplies a sum of log-probabilities by length^10.
const IMPOSSIBLE: f32 = f32::NEG_INFINITY;

/// A finished hypothesis.
#[derive(Debug, Clone)]
struct Hypothesis {
    /// Includes the prompt.
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
    /// Number of tokens in the prompt.
    prompt: usize,
    processors: Processors,
    /// `None` means no sampling.
    rng: Option<RowRng>,
    /// Running sequences, including the prompt, with their summed log-probabilities, best first.
    running: Vec<(Vec<u32>, f32)>,
    /// The best `beams` hypotheses so far, best first. Placeholders fill it at the beginning.
    best: Vec<Hypothesis>,
    improvable: bool,
}

/// A candidate: the running beam it extends, the token, and the summed log-probability.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    beam: usize,
    token: u32,
    score: f32,
    /// Whether it ends the sequence, by an end token or at the maximum length.
    ends: bool,
}

impl BeamSearch {
    /// Starts a search after a prompt of at least one token.
    pub(crate) fn new(params: &GenerationParams, prompt: &[u32], eos: &[u32], rng: Option<RowRng>) -> Self {
        let beams = params.num_beams;
        let score = |beam: usize| if beam == 0 { 0.0 } else { IMPOSSIBLE };
        let nothing = Hypothesis {
            tokens: prompt.to_vec(),
            score: IMPOSSIBLE,
            finished: false,
        };
        Self {
            beams,
            max_new_tokens: params.max_new_tokens,
            length_penalty: params.length_penalty,
            early_stopping: params.early_stopping,
            eos: eos.to_vec(),
            prompt: prompt.len(),
            processors: Processors::new(params, eos, prompt.len()),
            rng,
            // At the first step all beams are equal, so only the first one counts.
            running: (0..beams).map(|beam| (prompt.to_vec(), score(beam))).collect(),
            best: vec![nothing; beams],
            improvable: true,
        }
    }

    /// Returns the number of new tokens of the running sequences.
    fn new_tokens(&self) -> usize {
        self.running[0].0.len() - self.prompt
    }

    /// Candidates per step: enough to leave `beams` to continue with even if every end token is among them.
    fn count(&self) -> usize {
        (1 + self.eos.len()).max(2) * self.beams
    }

    /// Returns the decoder rows of the next step: one at the first step, where all beams are equal.
    pub(crate) fn rows(&self, vocabulary: usize) -> usize {
        let first = self.new_tokens() == 0;
        match first && self.processors.has_at_least(self.count(), vocabulary) {
            true => 1,
            false => self.beams,
        }
    }

    /// Returns what the search needs of a row's logits, and the banned ids.
    pub(crate) fn wanted(&self, row: usize, vocabulary: usize) -> (Wanted, Vec<u32>) {
        let banned = self.processors.banned(&self.running[row].0);
        (self.processors.wanted(self.count(), vocabulary), banned)
    }

    /// Consumes the logits of a step, one entry per row. Returns the parent row of each beam, or `None` at the end.
    pub(crate) fn advance(&mut self, logits: &[RowLogits]) -> Option<Vec<usize>> {
        let candidates = self.candidates(logits);
        // Every id of every beam is banned, so no sequence can continue.
        if candidates.is_empty() {
            return None;
        }
        let new_tokens = self.new_tokens() + 1;
        self.finish(&candidates, new_tokens);

        let mut order: Vec<Candidate> = candidates.clone();
        for candidate in order.iter_mut().filter(|candidate| candidate.ends) {
            candidate.score = IMPOSSIBLE;
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

    /// Returns the candidates, best first, or in drawing order when sampling.
    fn candidates(&mut self, logits: &[RowLogits]) -> Vec<Candidate> {
        let count = self.count();
        let at_limit = self.new_tokens() + 1 >= self.max_new_tokens;
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
                // Rows and equal scores of a row are already ordered, and a stable sort keeps the lower id first.
                all.sort_by(|a, b| b.score.total_cmp(&a.score));
                all.truncate(count);
                all
            }
        }
    }

    /// Inserts candidates that end, and rank among the first `beams`, into the best hypotheses. `new_tokens` is their
    /// length without the prompt.
    fn finish(&mut self, candidates: &[Candidate], new_tokens: usize) {
        let length = (new_tokens as f64).powf(self.length_penalty) as f32;
        for candidate in candidates
            .iter()
            .take(self.beams)
            .filter(|candidate| candidate.ends)
        {
            let score = candidate.score / length;
            // An impossible candidate never becomes a result.
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

    /// Returns whether the best running beam may still beat the worst of the best hypotheses.
    fn can_improve(&self, new_tokens: usize) -> bool {
        let to_the_end = self.early_stopping == EarlyStopping::Never && self.length_penalty > 0.0;
        let length = if to_the_end {
            self.max_new_tokens
        } else {
            new_tokens
        };
        let hope = self.running[0].1 / (length as f64).powf(self.length_penalty) as f32;
        let worst = self.best.last().map_or(IMPOSSIBLE, |best| best.score);
        // A placeholder has the lowest score.
        self.best
            .iter()
            .any(|best| hope > if best.finished { worst } else { IMPOSSIBLE })
    }

    /// Returns the new tokens of the `count` best sequences so far, with their scores, best first.
    pub(crate) fn results(&self, count: usize) -> impl Iterator<Item = (&[u32], f32)> {
        let best = self.best.iter().take(count);
        best.map(|best| (&best.tokens[self.prompt..], best.score))
    }

    /// Returns the new tokens of a running sequence. Sequence 0 is the best.
    pub(crate) fn running(&self, beam: usize) -> &[u32] {
        &self.running[beam].0[self.prompt..]
    }

    /// Returns the last token of a running sequence, which is the prompt's at the beginning.
    pub(crate) fn last_token(&self, beam: usize) -> u32 {
        let tokens = &self.running[beam].0;
        tokens[tokens.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn a_real_score_always_beats_the_placeholder() {
        let params = GenerationParams {
            num_beams: 2,
            length_penalty: -10.0,
            max_new_tokens: 40,
            ..Default::default()
        };
        let logits = [0.0, 0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0];
        let mut search = BeamSearch::new(&params, &[0], &[1], None);
        loop {
            let rows: Vec<RowLogits> = (0..search.rows(logits.len()))
                .map(|row| {
                    let mut read = RowLogits::new(Isa::detect());
                    let (wanted, banned) = search.wanted(row, logits.len());
                    read.begin(wanted, banned);
                    read.feed(0, &logits);
                    read
                })
                .collect();
            // No end token is among the best, so only the maximum length ends a sequence.
            if search.advance(&rows).is_none() {
                break;
            }
        }
        let results: Vec<(&[u32], f32)> = search.results(2).collect();
        for (tokens, score) in results {
            assert_eq!(tokens.len(), 40);
            assert!(score.is_finite() && score < -1e9, "{score}");
        }
    }
}
