//! BLEU of one pair, as `sacrebleu.corpus_bleu([prediction], [[reference]])` computes it.
//!
//! Papineni et al. 2002, *BLEU: a Method for Automatic Evaluation of Machine Translation*, in the form of Post
//! 2018, *A Call for Clarity in Reporting BLEU Scores*: tokenizer 13a, case kept, n-grams up to four,
//! exponential smoothing (Chen and Cherry 2014, method 3), no effective order. The signature that `sacrebleu`
//! prints for it is `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`.
//!
//! BLEU is a corpus measure. On one short pair it is coarse: a prediction under four tokens scores 0, even
//! when it equals its reference.

use crate::space::is_space;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

/// The longest n-gram that counts.
const ORDERS: usize = 4;

/// BLEU of one pair and what it was computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BleuScore {
    /// The score, 0 to 100: `bp` times the geometric mean of `precisions`.
    pub score: f64,
    /// Smoothed precision of n = 1 to 4, each 0 to 100. All 0 when no n-gram of any length matches.
    pub precisions: [f64; ORDERS],
    /// N-grams of the prediction that also occur in the reference, n = 1 to 4.
    pub counts: [u64; ORDERS],
    /// N-grams of the prediction, n = 1 to 4.
    pub totals: [u64; ORDERS],
    /// Brevity penalty, 0 to 1: `exp(1 - ref_len / sys_len)` for a prediction shorter than its reference.
    pub bp: f64,
    /// Length of the prediction in tokens.
    pub sys_len: u64,
    /// Length of the reference in tokens.
    pub ref_len: u64,
}

/// Scores `prediction` against `reference`; the score is 0 to 100.
pub fn bleu(reference: &str, prediction: &str) -> BleuScore {
    let (reference, prediction) = (normalize(reference), normalize(prediction));
    let (reference, prediction) = (split(&reference), split(&prediction));
    let (sys_len, ref_len) = (prediction.len() as u64, reference.len() as u64);
    let (reference, prediction) = intern(&reference, &prediction);
    let bp = match (sys_len, ref_len) {
        (sys, reference) if sys >= reference => 1.0,
        (0, _) => 0.0,
        (sys, reference) => (1.0 - reference as f64 / sys as f64).exp(),
    };

    let mut counts = [0; ORDERS];
    let mut totals = [0; ORDERS];
    for order in 1..=ORDERS {
        totals[order - 1] = (prediction.len() + 1).saturating_sub(order) as u64;
        counts[order - 1] = matches(&reference, &prediction, order);
    }
    let mut result = BleuScore {
        score: 0.0,
        precisions: [0.0; ORDERS],
        counts,
        totals,
        bp,
        sys_len,
        ref_len,
    };
    if counts.iter().all(|&count| count == 0) {
        return result;
    }

    let mut smoothing = 1.0;
    for ((precision, &count), &total) in result.precisions.iter_mut().zip(&counts).zip(&totals) {
        if total == 0 {
            break;
        }
        *precision = if count == 0 {
            smoothing *= 2.0;
            100.0 / (smoothing * total as f64)
        } else {
            100.0 * count as f64 / total as f64
        };
    }
    if result.precisions.iter().all(|&precision| precision > 0.0) {
        let logs: f64 = result.precisions.iter().map(|precision| precision.ln()).sum();
        // Rounding can push four logarithms of 100 slightly above it.
        result.score = (bp * (logs / ORDERS as f64).exp()).min(100.0);
    }
    result
}

/// Returns the tokens of a text under mteval-v13a's rules.
///
/// ASCII punctuation is a token of its own, except that `'` stays in its word, `.` and `,` stay between digits, and `-`
/// is split off after a digit only. The entities `&quot;`, `&amp;`, `&lt;` and `&gt;` are decoded first.
pub fn tokenize_13a(text: &str) -> Vec<String> {
    split(&normalize(text)).into_iter().map(str::to_owned).collect()
}

/// Inserts spaces between adjacent tokens.
fn normalize(text: &str) -> String {
    let mut text = text
        .trim_end_matches(is_space)
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    if text.contains('&') {
        text = text
            .replace("&quot;", "\"")
            .replace("&amp;", "&")
            .replace("&lt;", "<")
            .replace("&gt;", ">");
    }
    let text = isolate_punctuation(&format!(" {text} "));
    let stop = |c: char| c == '.' || c == ',';
    let text = replace_pairs(&text, |a, b| {
        (!a.is_ascii_digit() && stop(b)).then_some([a, ' ', b, ' '])
    });
    let text = replace_pairs(&text, |a, b| {
        (stop(a) && !b.is_ascii_digit()).then_some([' ', a, ' ', b])
    });
    replace_pairs(&text, |a, b| {
        (a.is_ascii_digit() && b == '-').then_some([a, ' ', b, ' '])
    })
}

/// Puts spaces around ASCII punctuation other than `'`, `,`, `-` and `.`.
fn isolate_punctuation(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '\'' | ',' | '-' | '.') {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

/// Replaces pairs of adjacent characters from left to right. A replaced pair is not examined again.
fn replace_pairs(text: &str, rule: impl Fn(char, char) -> Option<[char; 4]>) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut chars = text.chars();
    let mut pending = chars.next();
    while let Some(a) = pending {
        let Some(b) = chars.next() else {
            out.push(a);
            break;
        };
        if let Some(replacement) = rule(a, b) {
            out.extend(replacement);
            pending = chars.next();
        } else {
            out.push(a);
            pending = Some(b);
        }
    }
    out
}

fn split(text: &str) -> Vec<&str> {
    text.split(is_space).filter(|token| !token.is_empty()).collect()
}

/// A token of the prediction that does not occur in the reference.
const ABSENT: u32 = u32::MAX;

/// Maps equal tokens to equal numbers, and tokens missing from the reference to [`ABSENT`]. N-grams of numbers compare
/// faster.
fn intern(reference: &[&str], prediction: &[&str]) -> (Vec<u32>, Vec<u32>) {
    let mut vocabulary: HashMap<&str, u32> = HashMap::with_capacity(reference.len());
    let mut number = |token| {
        let next = u32::try_from(vocabulary.len()).unwrap_or(ABSENT - 1);
        *vocabulary.entry(token).or_insert(next)
    };
    let reference = reference.iter().map(|token| number(*token)).collect();
    let known = |token: &&str| vocabulary.get(token).copied().unwrap_or(ABSENT);
    (reference, prediction.iter().map(known).collect())
}

/// Packs an n-gram of up to four tokens into one number, which compares faster. Only n-grams of the same length may be
/// compared.
fn packed(ngram: &[u32]) -> u128 {
    ngram
        .iter()
        .fold(0, |packed, token| (packed << 32) | u128::from(*token))
}

/// Counts n-grams of the prediction that occur in the reference, each at most as often as there.
fn matches(reference: &[u32], prediction: &[u32], order: usize) -> u64 {
    let mut left: HashMap<u128, u64> = HashMap::with_capacity(reference.len());
    for ngram in reference.windows(order) {
        *left.entry(packed(ngram)).or_default() += 1;
    }
    let mut matched = 0;
    for known in prediction.split(|token| *token == ABSENT) {
        for ngram in known.windows(order) {
            if let Some(count) = left.get_mut(&packed(ngram)).filter(|count| **count > 0) {
                *count -= 1;
                matched += 1;
            }
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_fewer_than_four_tokens_score_zero() {
        assert_eq!(bleu("a b c", "a b c").score, 0.0);
        assert_eq!(bleu("a b c d", "a b c d").precisions, [100.0; 4]);
    }

    #[test]
    fn decimal_points_stay_and_hyphens_after_digits_split() {
        assert_eq!(
            tokenize_13a("77,410.5, 3.2% of 5-year-old."),
            ["77,410.5", ",", "3.2", "%", "of", "5", "-", "year-old", "."]
        );
    }
}
