//! Summary-level longest common subsequences, for `rougeLsum`, with 64 table cells to a machine word.
//!
//! A table of the lengths of common subsequences needs one bit a cell: whether the length grows there (Hyyrö 2004,
//! *Bit-Parallel LCS-length Computation Revisited*). These bits also say which way `rouge-score` walks back through the
//! table, so the positions that it chooses follow from them.

use hashbrown::HashMap;

/// Two texts as numbers, one for each distinct token, in lines.
#[derive(Debug, Default)]
struct Vocabulary {
    numbers: HashMap<String, u32>,
}

impl Vocabulary {
    fn number(&mut self, token: String) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(token).or_insert(next)
    }

    /// Numbers the tokens of each line that is not empty.
    fn lines(&mut self, text: &str, tokenize: impl Fn(&str) -> Vec<String>) -> Vec<Vec<u32>> {
        text.split('\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let tokens = tokenize(line).into_iter();
                tokens.map(|token| self.number(token)).collect()
            })
            .collect()
    }
}

/// Counts of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hits {
    pub(crate) hits: usize,
    pub(crate) reference_tokens: usize,
    pub(crate) prediction_tokens: usize,
}

/// Counts the tokens of the reference that belong to the longest common subsequence of their line with any line of the
/// prediction, each at most as often as it occurs in the prediction.
///
/// For texts of `n` and `m` tokens, takes time proportional to `n * m / 64` and up to `n * m / 64` words of memory.
pub(crate) fn union_hits(reference: &str, prediction: &str, tokenize: impl Fn(&str) -> Vec<String>) -> Hits {
    let mut vocabulary = Vocabulary::default();
    let reference = vocabulary.lines(reference, &tokenize);
    let prediction = vocabulary.lines(prediction, &tokenize);
    let mut counts_of = [
        vec![0_usize; vocabulary.numbers.len()],
        vec![0; vocabulary.numbers.len()],
    ];
    for (lines, counts) in [&reference, &prediction].into_iter().zip(&mut counts_of) {
        lines
            .iter()
            .flatten()
            .for_each(|token| counts[*token as usize] += 1);
    }
    let [mut in_reference, mut in_prediction] = counts_of;
    let mut line_table = LineTable::new(&in_prediction);
    let mut hits = 0;
    for line in &reference {
        let in_union = line_table.union(line, &prediction);
        for token in line
            .iter()
            .zip(in_union)
            .filter_map(|(token, is_in)| is_in.then_some(*token))
        {
            let counts = [
                &mut in_reference[token as usize],
                &mut in_prediction[token as usize],
            ];
            if counts.iter().all(|count| **count > 0) {
                hits += 1;
                counts.into_iter().for_each(|count| *count -= 1);
            }
        }
    }
    let tokens = |lines: &[Vec<u32>]| lines.iter().map(Vec::len).sum();
    Hits {
        hits,
        reference_tokens: tokens(&reference),
        prediction_tokens: tokens(&prediction),
    }
}

/// No mask.
const NONE: u32 = u32::MAX;

/// Compares a line of the reference with lines of the prediction.
struct LineTable {
    /// Whether the prediction has a token.
    is_shared: Vec<bool>,
    /// Index of the mask of each token in the current line, or [`NONE`].
    mask_of: Vec<u32>,
    /// For each token of the current line that is shared: a bit for each of its positions.
    masks: Vec<u64>,
    /// A row for each token of the prediction's line. A bit is 0 where the length grows.
    rows: Vec<u64>,
}

impl LineTable {
    fn new(in_prediction: &[usize]) -> Self {
        Self {
            is_shared: in_prediction.iter().map(|count| *count > 0).collect(),
            mask_of: vec![NONE; in_prediction.len()],
            masks: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Returns for each position of the line whether it belongs to a longest common subsequence.
    fn union(&mut self, line: &[u32], candidates: &[Vec<u32>]) -> Vec<bool> {
        let words = line.len().div_ceil(64);
        self.masks.clear();
        let mut count = 0;
        for (position, token) in line.iter().enumerate() {
            if !self.is_shared[*token as usize] {
                continue;
            }
            let mask = &mut self.mask_of[*token as usize];
            if *mask == NONE {
                *mask = count;
                count += 1;
                self.masks.resize(count as usize * words, 0);
            }
            self.masks[*mask as usize * words + position / 64] |= 1 << (position % 64);
        }
        let mut in_union = vec![false; line.len()];
        if count > 0 {
            for candidate in candidates {
                self.fill(candidate, words);
                self.walk_back(line, candidate, words, &mut in_union);
            }
        }
        line.iter().for_each(|token| self.mask_of[*token as usize] = NONE);
        in_union
    }

    fn fill(&mut self, candidate: &[u32], words: usize) {
        let mut row = vec![u64::MAX; words];
        self.rows.clear();
        for token in candidate {
            let mask = self.mask_of[*token as usize];
            if mask != NONE {
                let mask = &self.masks[mask as usize * words..][..words];
                let mut carry = false;
                for (word, mask) in row.iter_mut().zip(mask) {
                    let (sum, above) = word.overflowing_add(*word & mask);
                    let (sum, further) = sum.overflowing_add(u64::from(carry));
                    carry = above || further;
                    *word = sum | (*word & !mask);
                }
            }
            self.rows.extend_from_slice(&row);
        }
    }

    /// Marks the positions of one longest common subsequence, chosen as `rouge-score` does.
    fn walk_back(&self, line: &[u32], candidate: &[u32], words: usize, in_union: &mut [bool]) {
        let (mut i, mut j) = (line.len(), candidate.len());
        while i > 0 && j > 0 {
            let grows = || self.rows[(j - 1) * words + (i - 1) / 64] & (1 << ((i - 1) % 64)) == 0;
            if line[i - 1] == candidate[j - 1] {
                in_union[i - 1] = true;
                i -= 1;
                j -= 1;
            } else if grows() {
                // Without this token of the line the subsequence would be shorter, so the other one is not needed.
                j -= 1;
            } else {
                i -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rougers::{RougeScorer, RougeType, Tokenizer};

    use super::*;
    use crate::Prf;

    /// The same by a table of all pairs of tokens.
    fn by_table(reference: &str, prediction: &str) -> Prf {
        let scorer = RougeScorer::with_tokenizer(vec![RougeType::LSum], Tokenizer::new(false)).unwrap();
        let scores = scorer.score(reference, prediction);
        scores.get(RougeType::LSum).map(Prf::from).unwrap()
    }

    fn by_bits(reference: &str, prediction: &str) -> Prf {
        let tokenizer = Tokenizer::new(false);
        Prf::from(union_hits(reference, prediction, |line| tokenizer.tokenize(line)))
    }

    /// Returns a text of up to `lines` lines over an alphabet of `tokens` tokens.
    fn text(seed: &mut u64, lines: u64, length: u64, tokens: u64) -> String {
        let mut below = |bound: u64| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) % bound
        };
        let mut text = String::new();
        for _ in 0..=below(lines) {
            for _ in 0..below(length) {
                text += &format!("w{} ", below(tokens));
            }
            text += "\n";
        }
        text
    }

    #[test]
    fn bits_and_table_give_the_same_scores() {
        let mut seed = 7;
        for round in 0..400 {
            // Few tokens make repetitive texts with many subsequences of equal length; lengths straddle words of 64 bits.
            let (tokens, length) = ([1, 2, 3, 20][round % 4], [3, 63, 66, 200][round / 4 % 4]);
            let lines = [1, 2, 6][round % 3];
            let reference = text(&mut seed, lines, length, tokens);
            let prediction = text(&mut seed, lines, length, tokens);
            assert_eq!(
                by_bits(&reference, &prediction),
                by_table(&reference, &prediction),
                "{reference:?} {prediction:?}"
            );
        }
    }

    #[test]
    fn texts_without_common_tokens_have_no_hits() {
        for (reference, prediction) in [("", ""), ("", "a"), ("a", ""), ("a b\nc", "d\n\ne"), ("\n", "\n")] {
            assert_eq!(
                by_bits(reference, prediction),
                Prf::default(),
                "{reference:?} {prediction:?}"
            );
            assert_eq!(by_table(reference, prediction), Prf::default());
        }
    }
}
