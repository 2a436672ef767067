//! Synthetic results that resemble a worker's.
//!
//! A Markov chain over the sample articles generates the texts, so they compress like articles and no two are equal.

use std::collections::HashMap;

use anyhow::Context;
use jiff::SignedDuration;
use precis_runtime::clock;
use precis_schemas::JobResult;

use crate::samples;

/// The template of all results.
const RESULT: &str = include_str!("../../../../schemas/wire/v1/result.succeeded.json");

/// Mean numbers of words.
const TEXT_WORDS: u64 = 400;
const SUMMARY_WORDS: u64 = 22;
const REFERENCE_WORDS: u64 = 28;

/// The SplitMix64 generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Returns exponentially distributed milliseconds with a clock's resolution.
    fn milliseconds(&mut self, mean: f64) -> f64 {
        let share = (self.below(1 << 30) + 1) as f64 / f64::from(1 << 30);
        (-share.ln() * mean * 1e6).round() / 1e6
    }
}

/// Words and their successors.
struct MarkovChain<'a> {
    words: Vec<&'a str>,
    successors: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> MarkovChain<'a> {
    fn of(texts: &'a str) -> Self {
        let words: Vec<&str> = texts.split_whitespace().collect();
        let mut successors: HashMap<&str, Vec<&str>> = HashMap::new();
        for pair in words.windows(2) {
            successors.entry(pair[0]).or_default().push(pair[1]);
        }
        Self { words, successors }
    }

    fn text(&self, mean_words: u64, random: &mut Random) -> String {
        let any = |random: &mut Random| self.words[random.below(self.words.len() as u64) as usize];
        let mut text = String::new();
        let mut word = any(random);
        // Lengths vary between half the mean and one and a half times the mean.
        for _ in 0..mean_words / 2 + random.below(mean_words) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
            word = match self.successors.get(word) {
                Some(next) => next[random.below(next.len() as u64) as usize],
                None => any(random),
            };
        }
        text
    }
}

/// Returns `count` results for a round. Results differ between rounds.
pub(super) fn generate(round: usize, count: usize) -> anyhow::Result<Vec<JobResult>> {
    let template: JobResult = serde_json::from_str(RESULT).context("result.succeeded.json")?;
    let articles: Vec<String> = samples::articles()?
        .into_iter()
        .map(|sample| sample.article)
        .collect();
    let articles = articles.join("\n");
    let chain = MarkovChain::of(&articles);
    let mut random = Random(round as u64 + 1);
    let begin = clock::now();
    let result = |index: usize| {
        let mut result = template.clone();
        result.id = precis_schemas::JobId::generate();
        result.job_sequence = (round * count + index) as u64 + 1;
        let waited = random.milliseconds(900.0);
        let submitted = begin - SignedDuration::from_micros((waited * 1e3) as i64);
        result.submitted_at = submitted;
        result.started_at = Some(begin);
        result.finished_at = begin;
        result.text = chain.text(TEXT_WORDS, &mut random);
        let summary = chain.text(SUMMARY_WORDS, &mut random);
        result.reference = (random.below(3) == 0).then(|| chain.text(REFERENCE_WORDS, &mut random));
        let chars = |text: &str| text.chars().count() as u64;
        result.sizes.text_chars = chars(&result.text);
        result.sizes.text_tokens = chars(&result.text) / 4;
        result.sizes.summary_chars = chars(&summary);
        result.sizes.summary_tokens = chars(&summary) / 4;
        result.sizes.reference_chars = result.reference.as_deref().map_or(0, chars);
        result.summary = Some(summary);
        result.timings.queue_ms = random.milliseconds(800.0);
        result.timings.batch_wait_ms = random.milliseconds(20.0);
        result.timings.tokenize_ms = random.milliseconds(0.4);
        result.timings.encode_ms = random.milliseconds(30.0);
        result.timings.decode_ms = random.milliseconds(120.0);
        result
    };
    Ok((0..count).map(result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_differ_and_a_third_has_a_reference() {
        let all = generate(0, 300).unwrap();
        assert_eq!(all.len(), 300);
        let texts: std::collections::HashSet<&str> = all.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts.len(), all.len());
        let with = all.iter().filter(|one| one.reference.is_some()).count();
        assert!((60..140).contains(&with), "{with}");
    }
}
