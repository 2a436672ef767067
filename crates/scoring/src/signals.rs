//! Signals of quality that need the article and the summary alone, no reference.
//!
//! None of them says that a summary is good. They show, over many jobs, that a model has changed its habits:
//! copies more, invents more, repeats itself, breaks off.
//!
//! Words are the maximal runs of letters and digits of any script, in lower case. With `A` the words of the
//! article and `S` those of the summary, both in order:
//!
//! | signal | formula | source |
//! | --- | --- | --- |
//! | compression ratio | `len(A) / len(S)` | Grusky et al. 2018 |
//! | coverage | `sum(len(f)) / len(S)` over the fragments `f` of `S` shared with `A` | Grusky et al. 2018 |
//! | density | `sum(len(f)^2) / len(S)` over the same fragments | Grusky et al. 2018 |
//! | novel n-grams | distinct n-grams of `S` that `A` lacks / distinct n-grams of `S` | See et al. 2017; Fabbri et al. 2021 |
//! | repetition rate | `1 - distinct / all` trigrams of `S` | Welleck et al. 2020 (`seq-rep-n`) |
//!
//! Grusky, Naaman and Artzi 2018: *Newsroom*. See, Liu and Manning 2017: *Get To The Point*. Fabbri et al.
//! 2021: *SummEval*. Welleck et al. 2020: *Neural Text Generation with Unlikelihood Training*.

use crate::words::Vocabulary;
use serde::{Deserialize, Serialize};

/// The longest n-gram whose novelty is measured.
const NOVEL_ORDERS: usize = 3;

/// The length of the n-grams whose repetition is measured.
const REPETITION_ORDER: usize = 3;

/// Reference-free signals of one summary; the module describes the formulae. All figures are finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Length of the article in words.
    pub article_words: u64,
    /// Length of the summary in words.
    pub summary_words: u64,
    /// How many times longer the article is, from 0; under 1 when the summary is the longer one. 0 for a
    /// summary without words.
    pub compression_ratio: f64,
    /// Share of the summary's distinct n-grams that the article lacks, for n = 1, 2 and 3, each 0 to 1; 0
    /// where the summary has no n-gram. High values mean rewording, or invention.
    pub novel_ngrams: [f64; NOVEL_ORDERS],
    /// Share of the summary's words that lie in fragments copied from the article, 0 to 1.
    pub coverage: f64,
    /// Mean length, over the summary's words, of the copied fragment each lies in: 0 to the summary's length.
    pub density: f64,
    /// Share of the summary's trigrams that occurred before in it, from 0 to below 1. A model caught in a loop
    /// comes close to 1.
    pub repetition_rate: f64,
    /// The summary has no word.
    pub empty: bool,
    /// The summary has words but doesn't end with `.`, `!`, `?`, `…` or a similar mark of another script, before any
    /// closing quotes or brackets. Usually the length limit cut it off.
    pub truncated: bool,
}

/// A limit for [`try_signals`] that suits untrusted texts: 2^25 comparisons of words. A summary of 10,000 words of an
/// article of 100,000 needs about a quarter of that.
pub const DEFAULT_LIMIT: u64 = 1 << 25;

/// Computes all signals of one summary.
///
/// Time and memory are roughly linear in the two lengths. In the worst case, a few words repeated all over both texts,
/// time grows with their product. For untrusted texts use [`try_signals`].
///
/// ```
/// use precis_scoring::signals;
///
/// let found = signals("The cat sat on the mat all day.", "The cat sat all day.");
/// assert_eq!((found.coverage, found.density, found.compression_ratio), (1.0, 13.0 / 5.0, 8.0 / 5.0));
/// assert!(!found.truncated);
/// ```
pub fn signals(article: &str, summary: &str) -> Signals {
    try_signals(article, summary, u64::MAX).unwrap_or_default()
}

/// Computes all signals of one summary, or returns `None` if that takes more than `limit` comparisons of words.
pub fn try_signals(article: &str, summary: &str, limit: u64) -> Option<Signals> {
    let mut budget = Budget(limit);
    let mut vocabulary = Vocabulary::default();
    let summary_words = vocabulary.intern(summary);
    let article_words = vocabulary.look_up(article);
    let words = summary_words.len();
    let positions = Positions::of(&article_words, words);
    let (mut covered, mut squares) = (0, 0);
    for length in fragments(&article_words, &positions, &summary_words, &mut budget)? {
        covered += length;
        squares += length * length;
    }
    let ngrams: [_; NOVEL_ORDERS] = std::array::from_fn(|at| distinct(&summary_words, at + 1));
    let trigrams = &ngrams[REPETITION_ORDER - 1];
    let all_trigrams = (words + 1).saturating_sub(REPETITION_ORDER);
    let mut novel_ngrams = [0.0; NOVEL_ORDERS];
    for (share, ngrams) in novel_ngrams.iter_mut().zip(&ngrams) {
        *share = novelty(&article_words, &positions, ngrams, &mut budget)?;
    }
    Some(Signals {
        article_words: article_words.len() as u64,
        summary_words: words as u64,
        compression_ratio: ratio(article_words.len(), words),
        novel_ngrams,
        coverage: ratio(covered, words),
        density: ratio(squares, words),
        repetition_rate: ratio(all_trigrams - trigrams.len(), all_trigrams),
        empty: words == 0,
        truncated: words > 0 && !ends_like_a_sentence(summary),
    })
}

/// The comparisons of words that are left.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, comparisons: usize) -> Option<()> {
        self.0 = self.0.checked_sub(comparisons as u64)?;
        Some(())
    }
}

/// Returns the lengths of the summary's fragments that occur in the article, by the greedy search of Grusky et al.
/// 2018, figure 2: the longest match at each position, continuing after it. Numbers of the summary's words are below
/// their count. `None` if the budget is spent.
fn fragments(
    article: &[u32],
    positions: &Positions,
    summary: &[u32],
    budget: &mut Budget,
) -> Option<Vec<usize>> {
    let mut lengths = Vec::new();
    let mut from = 0;
    while let Some(&word) = summary.get(from) {
        let mut longest = 0;
        // As in the paper, the search continues after a match, not inside it.
        let mut behind = 0;
        for &at in positions.of_word(word) {
            budget.spend(1)?;
            if at >= behind {
                let pairs = summary[from..].iter().zip(&article[at..]);
                let length = pairs.take_while(|(ours, theirs)| ours == theirs).count();
                budget.spend(length)?;
                longest = longest.max(length);
                behind = at + length;
            }
        }
        if longest > 0 {
            lengths.push(longest);
        }
        from += longest.max(1);
    }
    Some(lengths)
}

/// An index of word positions: the positions of all words one after another, and the start of each word's list.
struct Positions {
    places: Vec<usize>,
    begins: Vec<usize>,
}

impl Positions {
    /// Indexes words with numbers below `words`.
    fn of(text: &[u32], words: usize) -> Self {
        let known = || {
            text.iter()
                .enumerate()
                .filter(|(_, word)| (**word as usize) < words)
        };
        let mut begins = vec![0; words + 1];
        for (_, word) in known() {
            begins[*word as usize + 1] += 1;
        }
        for word in 0..words {
            begins[word + 1] += begins[word];
        }
        let mut next = begins.clone();
        let mut places = vec![0; begins[words]];
        for (at, word) in known() {
            let next = &mut next[*word as usize];
            places[*next] = at;
            *next += 1;
        }
        Self { places, begins }
    }

    fn of_word(&self, word: u32) -> &[usize] {
        &self.places[self.begins[word as usize]..self.begins[word as usize + 1]]
    }
}

/// Packs an n-gram of up to three words into one number, to sort n-grams of the same length.
fn packed(ngram: &[u32]) -> u128 {
    ngram
        .iter()
        .fold(0, |packed, word| (packed << 32) | u128::from(*word))
}

/// Returns the share of the summary's distinct n-grams, given as `ngrams`, that the article lacks. Searches around each
/// n-gram's rarest word. `None` if the budget is spent.
fn novelty(article: &[u32], positions: &Positions, ngrams: &[&[u32]], budget: &mut Budget) -> Option<f64> {
    let mut lacking = 0;
    for ngram in ngrams {
        let places = ngram.iter().map(|word| positions.of_word(*word)).enumerate();
        let Some((before, places)) = places.min_by_key(|(_, places)| places.len()) else {
            continue;
        };
        budget.spend(places.len())?;
        let mut begins = places.iter().filter_map(|at| at.checked_sub(before));
        lacking += usize::from(!begins.any(|at| article[at..].starts_with(ngram)));
    }
    Some(ratio(lacking, ngrams.len()))
}

/// Returns the distinct n-grams of a text, sorted.
fn distinct(words: &[u32], order: usize) -> Vec<&[u32]> {
    let mut ngrams: Vec<&[u32]> = words.windows(order).collect();
    ngrams.sort_unstable_by_key(|ngram| packed(ngram));
    ngrams.dedup();
    ngrams
}

/// Returns the quotient, or 0 for a divisor of 0.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn ends_like_a_sentence(text: &str) -> bool {
    let closing = |c: char| {
        matches!(
            c,
            '"' | '\'' | ')' | ']' | '}' | '’' | '”' | '»' | '›' | '」' | '』' | '）'
        )
    };
    let bare = text.trim_end_matches(|c: char| c.is_whitespace() || closing(c));
    bare.ends_with(['.', '!', '?', '…', '。', '！', '？', '।', '؟', '۔'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ABSENT;

    #[test]
    fn fragments_are_the_longest_matches_from_left_to_right() {
        let lengths = |article: &[u32], summary: &[u32]| {
            let positions = Positions::of(article, summary.len());
            fragments(article, &positions, summary, &mut Budget(u64::MAX)).unwrap()
        };
        let article = [0, 1, 2, 5, 0, 1, 2, 3, ABSENT];
        assert_eq!(lengths(&article, &[0, 1, 2, 3, 4, 5]), [4, 1]);
        assert_eq!(lengths(&[], &[0]), [0; 0]);
        assert_eq!(lengths(&[0], &[]), [0; 0]);
    }

    #[test]
    fn repetitive_texts_exceed_the_limit_and_ordinary_ones_do_not() {
        let article = "a b ".repeat(50_000);
        assert_eq!(try_signals(&article, &"a c ".repeat(5_000), DEFAULT_LIMIT), None);
        // One long match, and matches of nothing, are cheap.
        assert!(try_signals(&article, &article, DEFAULT_LIMIT).is_some());
        assert!(try_signals(&article, &"x y ".repeat(5_000), DEFAULT_LIMIT).is_some());
        let (article, summary) = ("The cat sat on the mat all day.", "The cat sat all day.");
        assert_eq!(
            try_signals(article, summary, 100),
            Some(signals(article, summary))
        );
    }

    #[test]
    fn a_copied_summary_has_full_coverage_and_no_novelty() {
        let found = signals("One two three four. Five six.", "One two three four.");
        assert_eq!(found.novel_ngrams, [0.0; 3]);
        assert_eq!(
            (found.coverage, found.density, found.compression_ratio),
            (1.0, 4.0, 1.5)
        );
    }

    #[test]
    fn an_invented_summary_is_entirely_novel() {
        let found = signals("one two three", "four five six.");
        assert_eq!(found.novel_ngrams, [1.0; 3]);
        assert_eq!((found.coverage, found.density), (0.0, 0.0));
    }

    #[test]
    fn words_match_across_case_in_any_script() {
        let found = signals(
            "The \u{e9}t\u{e9} of \u{39f}\u{394}\u{39f}\u{3a3}, \u{39f}\u{394}\u{39f}\u{3a3}",
            "THE \u{c9}T\u{c9} OF \u{3bf}\u{3b4}\u{3bf}\u{3c2}.",
        );
        assert_eq!(
            (found.coverage, found.density, found.article_words),
            (1.0, 4.0, 5)
        );
    }

    #[test]
    fn a_loop_has_a_high_repetition_rate() {
        assert_eq!(signals("", "a b c a b c a b c").repetition_rate, 1.0 - 3.0 / 7.0);
        assert_eq!(signals("", "a b").repetition_rate, 0.0);
    }

    #[test]
    fn unfinished_summaries_are_truncated_and_empty_ones_are_not() {
        for (summary, empty, truncated) in [
            ("", true, false),
            (" ... ", true, false),
            ("The man who", false, true),
            ("The man left", false, true),
            ("The man left.", false, false),
            ("He said \u{201c}go!\u{201d} ", false, false),
            ("He left (at 5.)", false, false),
            ("He left,", false, true),
            ("彼は去った。", false, false),
        ] {
            let found = signals("The man left.", summary);
            assert_eq!((found.empty, found.truncated), (empty, truncated), "{summary:?}");
        }
    }
}
