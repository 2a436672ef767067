//! Processes the scores of a row's next token as transformers' logits processors do, in the same order.
//!
//! Computes in f32 wherever transformers does, so that near ties resolve the same way.

use super::logits::{RowLogits, Wanted};
use super::params::GenerationParams;

/// Above this number of highest scores, keeping them ordered costs more than using all scores.
const MOST_HIGHEST: usize = 256;

/// Score processors of one request.
#[derive(Debug)]
pub(crate) struct Processors {
    repetition_penalty: f32,
    no_repeat_ngram_size: usize,
    min_new_tokens: usize,
    eos: Vec<u32>,
    /// Number of tokens in the prompt.
    prompt: usize,
    warp: Option<Warpers>,
}

/// Processors that apply to sampling only.
#[derive(Debug)]
struct Warpers {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    /// A beam must keep one token more than there are end tokens, or no token may remain to continue with.
    min_tokens_to_keep: usize,
}

impl Processors {
    /// Builds the processors of `params` with the end tokens `eos`, for sequences that begin with `prompt` tokens.
    pub(crate) fn new(params: &GenerationParams, eos: &[u32], prompt: usize) -> Self {
        let min_tokens_to_keep = if params.num_beams > 1 { eos.len() + 1 } else { 1 };
        Self {
            repetition_penalty: params.repetition_penalty as f32,
            no_repeat_ngram_size: params.no_repeat_ngram_size,
            min_new_tokens: params.min_new_tokens,
            eos: eos.to_vec(),
            prompt,
            warp: params.do_sample.then_some(Warpers {
                temperature: params.temperature as f32,
                top_k: params.top_k,
                top_p: params.top_p as f32,
                min_tokens_to_keep,
            }),
        }
    }

    /// Returns what a search over `vocabulary` tokens needs of a row to find `count` candidates.
    pub(crate) fn wanted(&self, count: usize, vocabulary: usize) -> Wanted {
        let count = match &self.warp {
            Some(warp) if warp.top_k == 0 => return Wanted::All,
            Some(warp) => warp.top_k.max(warp.min_tokens_to_keep),
            None => count,
        };
        match self.repetition_penalty != 1.0 || count > MOST_HIGHEST || 2 * count > vocabulary {
            true => Wanted::All,
            false => Wanted::Highest(count),
        }
    }

    /// Returns whether the first step of a search is certain to have this many candidates.
    pub(crate) fn has_at_least(&self, count: usize, vocabulary: usize) -> bool {
        match &self.warp {
            Some(warp) => warp.top_k >= count && warp.top_p >= 1.0 && 2 * warp.top_k < vocabulary,
            None => 2 * count < vocabulary,
        }
    }

    /// Returns the ids that may not follow `tokens`.
    pub(crate) fn banned(&self, tokens: &[u32]) -> Vec<u32> {
        let mut banned = Vec::new();
        if self.no_repeat_ngram_size > 0 {
            banned.extend(self.repeating(tokens));
        }
        if tokens.len() < self.prompt + self.min_new_tokens {
            banned.extend(&self.eos);
        }
        banned
    }

    /// Returns the ids that may follow `tokens` with their processed scores, best first unless sampling. Scores are
    /// logits, or log-probabilities if `normalize`. `count` is the number of candidates that a search without sampling
    /// uses.
    pub(crate) fn candidates(
        &self,
        tokens: &[u32],
        logits: &RowLogits,
        normalize: bool,
        count: usize,
    ) -> Vec<(u32, f32)> {
        let total = if normalize { logits.log_sum_exp() } else { 0.0 };
        match (logits.highest(), &self.warp) {
            (Some(highest), warp) => {
                let mut kept: Vec<(u32, f32)> =
                    highest.iter().map(|(score, id)| (*id, score - total)).collect();
                if let Some(warp) = warp {
                    warp.apply_to_highest(&mut kept);
                }
                kept
            }
            (None, warp) => {
                let mut scores: Vec<f32> = logits.all().iter().map(|score| score - total).collect();
                self.apply(tokens, &mut scores);
                let with_id = |(id, score): (usize, f32)| (id as u32, score);
                match warp {
                    Some(_) => scores.into_iter().enumerate().map(with_id).collect(),
                    None => top(&scores, count).into_iter().map(with_id).collect(),
                }
            }
        }
    }

    /// Processes the scores of the token after `tokens`, which include the prompt. Scores are logits, or
    /// log-probabilities in a beam search.
    fn apply(&self, tokens: &[u32], scores: &mut [f32]) {
        if self.repetition_penalty != 1.0 {
            self.penalize_repetition(tokens, scores);
        }
        for id in self.banned(tokens) {
            scores[id as usize] = f32::NEG_INFINITY;
        }
        if let Some(warp) = &self.warp {
            warp.apply(scores);
        }
    }

    fn penalize_repetition(&self, tokens: &[u32], scores: &mut [f32]) {
        let penalty = self.repetition_penalty;
        // Once per distinct token.
        let mut distinct = tokens.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        for id in distinct {
            let score = &mut scores[id as usize];
            *score = if *score < 0.0 {
                *score * penalty
            } else {
                *score / penalty
            };
        }
    }

    /// Returns the ids that would repeat a sequence of `no_repeat_ngram_size` tokens.
    fn repeating(&self, tokens: &[u32]) -> Vec<u32> {
        let size = self.no_repeat_ngram_size;
        if tokens.len() < size {
            return Vec::new();
        }
        let suffix = &tokens[tokens.len() + 1 - size..];
        let windows = tokens.windows(size).filter_map(|window| window.split_last());
        windows
            .filter(|(_, head)| *head == suffix)
            .map(|(last, _)| *last)
            .collect()
    }
}

impl Warpers {
    /// Like [`Warpers::apply`], given only the highest scores, best first: removes the same ids.
    fn apply_to_highest(&self, kept: &mut [(u32, f32)]) {
        let mut scores: Vec<f32> = kept.iter().map(|(_, score)| score / self.temperature).collect();
        if self.top_p < 1.0 {
            self.keep_top_p(&mut scores);
        }
        kept.iter_mut()
            .zip(scores)
            .for_each(|((_, kept), score)| *kept = score);
    }

    fn apply(&self, scores: &mut [f32]) {
        if self.temperature != 1.0 {
            scores.iter_mut().for_each(|score| *score /= self.temperature);
        }
        if self.top_k > 0 {
            self.keep_top_k(scores);
        }
        if self.top_p < 1.0 {
            self.keep_top_p(scores);
        }
    }

    fn keep_top_k(&self, scores: &mut [f32]) {
        let keep = self.top_k.max(self.min_tokens_to_keep);
        if keep >= scores.len() {
            return;
        }
        let mut sorted = scores.to_vec();
        let (_, threshold, _) = sorted.select_nth_unstable_by(keep - 1, |a, b| b.total_cmp(a));
        let threshold = *threshold;
        // Ties with the last one stay, as in transformers.
        for score in scores.iter_mut().filter(|score| **score < threshold) {
            *score = f32::NEG_INFINITY;
        }
    }

    fn keep_top_p(&self, scores: &mut [f32]) {
        let mut order: Vec<usize> = (0..scores.len())
            .filter(|id| scores[*id] > f32::NEG_INFINITY)
            .collect();
        // Ascending. Of equal scores the lower id ranks higher, as everywhere.
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
        let total = log_sum_exp(scores);
        let mut cumulative = 0f32;
        for id in &order[..order.len().saturating_sub(self.min_tokens_to_keep)] {
            cumulative += (scores[*id] - total).exp();
            if cumulative > 1.0 - self.top_p {
                break;
            }
            scores[*id] = f32::NEG_INFINITY;
        }
    }
}

/// Returns ln Σ exp(x), without overflow.
pub(crate) fn log_sum_exp(scores: &[f32]) -> f32 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return most;
    }
    // Sixteen partial sums: accurate enough, and they fit into registers.
    let mut sums = [0f32; 16];
    let chunks = scores.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|score| (score - most).exp()).sum();
    for chunk in chunks {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *sum += (score - most).exp();
        }
    }
    most + (sums.iter().sum::<f32>() + rest).ln()
}

/// Returns the indices and values of the `count` highest scores, best first. Of equal scores the lower index comes
/// first.
pub(crate) fn top(scores: &[f32], count: usize) -> Vec<(usize, f32)> {
    let count = count.min(scores.len());
    let mut best: Vec<(usize, f32)> = Vec::with_capacity(count + 1);
    for (index, score) in scores.iter().copied().enumerate() {
        if best.len() == count && best.last().is_none_or(|(_, worst)| score <= *worst) {
            continue;
        }
        let place = best.partition_point(|(_, other)| *other >= score);
        best.insert(place, (index, score));
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    const OUT: f32 = f32::NEG_INFINITY;

    fn processed(params: &GenerationParams, tokens: &[u32], scores: &[f32]) -> Vec<f32> {
        let mut scores = scores.to_vec();
        Processors::new(params, &[1], 1).apply(tokens, &mut scores);
        scores
    }

    #[test]
    fn repetition_is_penalized_once_on_the_side_of_its_sign() {
        let params = GenerationParams {
            repetition_penalty: 2.0,
            ..Default::default()
        };
        assert_eq!(
            processed(&params, &[0, 2, 2, 3], &[1.0, 1.0, 4.0, -1.0, 1.0]),
            [0.5, 1.0, 2.0, -2.0, 1.0]
        );
    }

    #[test]
    fn an_ngram_may_occur_once() {
        let pairs = GenerationParams {
            no_repeat_ngram_size: 2,
            ..Default::default()
        };
        assert_eq!(
            processed(&pairs, &[0, 2, 3, 4, 2], &[0.0; 5]),
            [0.0, 0.0, 0.0, OUT, 0.0]
        );
        assert_eq!(processed(&pairs, &[0], &[0.0; 5]), [0.0; 5]);
        let single = GenerationParams {
            no_repeat_ngram_size: 1,
            ..Default::default()
        };
        assert_eq!(processed(&single, &[0, 2], &[0.0; 4]), [OUT, 0.0, OUT, 0.0]);
    }

    #[test]
    fn the_end_token_is_banned_below_the_minimum_length() {
        let params = GenerationParams {
            min_new_tokens: 2,
            ..Default::default()
        };
        for (tokens, banned) in [(vec![0], true), (vec![0, 5], true), (vec![0, 5, 6], false)] {
            assert_eq!(processed(&params, &tokens, &[0.0; 8])[1] == OUT, banned);
        }
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_keeps_the_token_that_crosses() {
        let sample = GenerationParams {
            do_sample: true,
            ..Default::default()
        };
        let params = GenerationParams { top_k: 2, ..sample };
        assert_eq!(
            processed(&params, &[0], &[3.0, 1.0, 2.0, 2.0]),
            [3.0, OUT, 2.0, 2.0]
        );
        let params = GenerationParams {
            top_k: 0,
            top_p: 0.7,
            ..sample
        };
        let scores = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        assert_eq!(
            processed(&params, &[0], &scores),
            [scores[0], scores[1], OUT, OUT]
        );
        // A beam keeps two tokens, or an end token would leave it none.
        let params = GenerationParams {
            top_k: 1,
            top_p: 0.1,
            num_beams: 2,
            ..sample
        };
        assert_eq!(
            processed(&params, &[0], &scores),
            [scores[0], scores[1], OUT, OUT]
        );
    }

    #[test]
    fn top_is_sorted_and_stable() {
        assert_eq!(top(&[1.0, 3.0, 3.0, OUT, 2.0], 3), [(1, 3.0), (2, 3.0), (4, 2.0)]);
        assert_eq!(top(&[OUT, 1.0], 5), [(1, 1.0), (0, OUT)]);
    }

    #[test]
    fn highest_scores_give_the_same_candidates_as_all_scores() {
        let logits: Vec<f32> = (0..300).map(|index| (index as f32 * 0.7).sin() * 9.0).collect();
        let sampling = GenerationParams {
            do_sample: true,
            temperature: 0.7,
            top_k: 12,
            top_p: 0.8,
            ..Default::default()
        };
        let beams = GenerationParams {
            num_beams: 4,
            no_repeat_ngram_size: 1,
            min_new_tokens: 9,
            ..Default::default()
        };
        for params in [sampling, beams] {
            let processors = Processors::new(&params, &[1], 1);
            let tokens = [0, 2, 11, 12];
            let read = |wanted| {
                let mut row = RowLogits::new(Isa::detect());
                row.begin(wanted, processors.banned(&tokens));
                logits
                    .chunks(64)
                    .enumerate()
                    .for_each(|(index, block)| row.feed(index * 64, block));
                let mut found = processors.candidates(&tokens, &row, true, 12);
                found.retain(|(_, score)| *score > OUT);
                found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                found
            };
            assert_eq!(processors.wanted(12, 300), Wanted::Highest(12));
            assert_eq!(read(Wanted::Highest(12)), read(Wanted::All));
        }
    }

    #[test]
    fn log_sum_exp_of_no_scores_is_negative_infinity() {
        assert_eq!(log_sum_exp(&[OUT, OUT]), OUT);
    }
}
