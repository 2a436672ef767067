//! Results that look like those of workers: texts of the samples' words in the samples' order of pairs, so that they
//! compress as articles do, and no two are alike.

use std::collections::HashMap;

use jiff::SignedDuration;
use precis_runtime::clock;
use precis_schemas::JobResult;

/// A result as it travels; everything that differs is put into copies of it.
const RESULT: &str = include_str!("../../../../../schemas/wire/v1/result.succeeded.json");
const ARTICLES: &str = include_str!("../../../../../samples/articles.jsonl");

/// Words of a text, of a summary and of a reference.
const TEXT_WORDS: u64 = 400;
const SUMMARY_WORDS: u64 = 22;
const REFERENCE_WORDS: u64 = 28;

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Milliseconds with the resolution of a clock, most of them short.
    fn milliseconds(&mut self, mean: f64) -> f64 {
        let share = (self.below(1 << 30) + 1) as f64 / f64::from(1 << 30);
        (-share.ln() * mean * 1e6).round() / 1e6
    }
}

/// Words, and which ones follow each.
struct Words<'a> {
    all: Vec<&'a str>,
    following: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Words<'a> {
    fn of(texts: &'a str) -> Self {
        let all: Vec<&str> = texts.split_whitespace().collect();
        let mut following: HashMap<&str, Vec<&str>> = HashMap::new();
        for pair in all.windows(2) {
            following.entry(pair[0]).or_default().push(pair[1]);
        }
        Self { all, following }
    }

    fn text(&self, words: u64, random: &mut Random) -> String {
        let any = |random: &mut Random| self.all[random.below(self.all.len() as u64) as usize];
        let mut text = String::new();
        let mut word = any(random);
        // Between half and one and a half times as many.
        for _ in 0..words / 2 + random.below(words) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
            word = match self.following.get(word) {
                Some(next) => next[random.below(next.len() as u64) as usize],
                None => any(random),
            };
        }
        text
    }
}

/// The articles of the samples, one after another.
pub(super) fn articles() -> String {
    let article = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["article"].as_str()?.to_owned() + "\n")
    };
    ARTICLES.lines().filter_map(article).collect()
}

/// The results of a round.
pub(super) fn several(round: usize, count: usize) -> Vec<JobResult> {
    // A fixture that the tests of the contract read, too.
    let Ok(template) = serde_json::from_str::<JobResult>(RESULT) else {
        return vec![];
    };
    let articles = articles();
    let words = Words::of(&articles);
    let mut random = Random(round as u64 + 1);
    let begin = clock::now();
    let one = |index: usize| {
        let mut result = template.clone();
        result.id = precis_schemas::JobId::generate();
        result.job_sequence = (round * count + index) as u64 + 1;
        let waited = random.milliseconds(900.0);
        let submitted = begin - SignedDuration::from_micros((waited * 1e3) as i64);
        result.submitted_at = submitted;
        result.started_at = Some(begin);
        result.finished_at = begin;
        result.text = words.text(TEXT_WORDS, &mut random);
        let summary = words.text(SUMMARY_WORDS, &mut random);
        result.reference = (random.below(3) == 0).then(|| words.text(REFERENCE_WORDS, &mut random));
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
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_results_are_alike_and_a_third_has_a_reference() {
        let all = several(0, 300);
        assert_eq!(all.len(), 300);
        let texts: std::collections::HashSet<&str> = all.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts.len(), all.len());
        let with = all.iter().filter(|one| one.reference.is_some()).count();
        assert!((60..140).contains(&with), "{with}");
    }
}
