//! The predictions of the sample history: 30 days of invented traffic over the sample articles.
//!
//! Scores and signals are computed, so they fit the texts; times, workers and outcomes are invented. The numbers follow
//! from fixed seeds: two monitors that load the history on one day store the same rows.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::job::Channel;
use precis_schemas::rest_operations::SampleHistory;
use precis_schemas::result::{ModelRef, ReportedDelivery, WorkerRef};
use precis_schemas::{JobId, JobResult, Lane, Outcome, Token};

use super::Article;
use crate::consumer::StreamPosition;
use crate::row::{self, PredictionRow, Scorer, TextFilter};

/// Longest history, in days.
pub(super) const MAX_DAYS: u32 = 30;
/// Models of the history. No worker serves them, so figures of real models stay as they are.
pub(super) const MODELS: [&str; 3] = ["sample-small", "sample-base", "sample-external"];
/// Predictions of a usual day.
const USUAL_DAY: usize = 41;
/// Predictions of each of the latest days: enough to compare them with the baseline of drift.
const BUSY_DAY: usize = 320;
const BUSY_DAYS: u32 = 3;
/// Hours with traffic. Few hours make few rollups, which are computed soon.
const HOURS: [i64; 8] = [1, 7, 8, 9, 11, 14, 16, 20];
/// Ways to summarize an article.
const VARIANTS: usize = 5;

/// Deterministic numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 up to, but without, 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns an exponentially distributed number.
    fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// Chooses by weight.
    fn choose<T: Copy>(&mut self, weights: &[(T, f64)]) -> Option<T> {
        let mut left = self.share() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
        let fits = |(_, weight): &&(T, f64)| {
            left -= weight;
            left < 0.0
        };
        weights
            .iter()
            .find(fits)
            .or(weights.last())
            .map(|(value, _)| *value)
    }
}

/// Leaves out every `nth` word.
fn thinned(text: &str, nth: usize) -> String {
    let words = text.split_whitespace().enumerate();
    let kept: Vec<&str> = words
        .filter(|(index, _)| index % nth != nth - 1)
        .map(|(_, word)| word)
        .collect();
    kept.join(" ")
}

/// Returns a summary. Later variants are closer to the reference.
fn summary(article: &Article, variant: usize) -> String {
    let first = precis_scoring::first_sentence(&article.article);
    let half = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words[..words.len().div_ceil(2)].join(" ")
    };
    match variant {
        0 => first.to_owned(),
        1 => format!("{} {}", half(first), half(&article.reference)),
        2 => thinned(&article.reference, 3),
        3 => half(&article.reference),
        _ => thinned(&article.reference, 6),
    }
}

/// How a prediction ended, with the error of those that have no summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ending {
    Summary { variant: usize, has_reference: bool },
    Error(ErrorCode),
}

/// Returns the row of an article that ended like this, without its times, model and origin.
fn template(article: &Article, ending: Ending, scorer: &Scorer, texts: TextFilter) -> Option<PredictionRow> {
    let epoch = Timestamp::UNIX_EPOCH;
    let delivery = ReportedDelivery {
        sequence: 0,
        attempt: 1,
        submitted_at: epoch,
        started_at: None,
    };
    let chars = |text: &str| text.chars().count() as u64;
    let mut result = JobResult {
        text: article.article.clone(),
        tenant: Token::sanitized(SampleHistory::TENANT),
        metadata: BTreeMap::from([
            ("sample".to_owned(), "true".to_owned()),
            ("article".to_owned(), article.id.clone()),
        ]),
        ..JobResult::new("sample".parse::<JobId>().ok()?, delivery, epoch)
    };
    result.sizes.text_chars = chars(&article.article);
    result.sizes.text_tokens = chars(&article.article).div_ceil(4).min(512);
    match ending {
        Ending::Summary {
            variant,
            has_reference,
        } => {
            let summary = summary(article, variant);
            result.outcome = Outcome::Succeeded;
            result.sizes.summary_chars = chars(&summary);
            result.sizes.summary_tokens = chars(&summary).div_ceil(4);
            result.summary = Some(summary);
            result.reference = has_reference.then(|| article.reference.clone());
            result.sizes.reference_chars = result.reference.as_deref().map_or(0, chars);
        }
        Ending::Error(code) => {
            result.outcome = match code {
                ErrorCode::Cancelled => Outcome::Cancelled,
                ErrorCode::DeadlineExceeded => Outcome::Expired,
                _ => Outcome::Failed,
            };
            result.error = Some(Refusal::new(code, format!("invented: {}", code.title())));
        }
    }
    let position = StreamPosition {
        sequence: 0,
        published_at: epoch,
    };
    Some(row::build(&result, position, scorer, texts))
}

/// Times at which predictions of a day ended, and whether the day is busy. `age` is 0 for today.
fn times(numbers: &mut Numbers, now: Timestamp, age: u32) -> Vec<Timestamp> {
    let today = now.as_second().div_euclid(86_400) * 86_400;
    let day = today - i64::from(age) * 86_400;
    let is_busy = (1..=BUSY_DAYS).contains(&age);
    let count = if is_busy { BUSY_DAY } else { USUAL_DAY };
    // 1970 began on a Thursday.
    let weekend = (day.div_euclid(86_400) + 3).rem_euclid(7) >= 5;
    let count = if weekend && !is_busy { count * 2 / 3 } else { count };
    let at = |_| {
        let hour = HOURS[(numbers.next() % HOURS.len() as u64) as usize];
        let minute = (numbers.next() % 12) as i64 * 5;
        let millis = (numbers.next() % 60_000) as i64;
        let at = Timestamp::from_millisecond((day + hour * 3_600 + minute * 60) * 1_000 + millis).ok()?;
        (at < now).then_some(at)
    };
    (0..count).filter_map(at).collect()
}

const CHANNELS: [(Channel, f64); 8] = [
    (Channel::Api, 38.0),
    (Channel::Batch, 22.0),
    (Channel::Lambda, 12.0),
    (Channel::Mlflow, 9.0),
    (Channel::Sagemaker, 8.0),
    (Channel::Direct, 7.0),
    (Channel::Local, 4.0),
    (Channel::Other, 4.0),
];

const ERRORS: [(ErrorCode, f64); 5] = [
    (ErrorCode::Cancelled, 3.0),
    (ErrorCode::DeadlineExceeded, 3.0),
    (ErrorCode::InferenceFailed, 2.0),
    (ErrorCode::UnknownModel, 1.0),
    (ErrorCode::TooManyAttempts, 1.0),
];

/// Returns the history of the `days` before `now`.
pub(super) fn rows(articles: &[Article], now: Timestamp, days: u32, texts: TextFilter) -> Vec<PredictionRow> {
    let scorer = Scorer::default();
    let mut templates: BTreeMap<(usize, Ending), Option<PredictionRow>> = BTreeMap::new();
    let mut rows = Vec::new();
    if articles.is_empty() {
        return rows;
    }
    for age in (0..=days).rev() {
        // One seed for each day of the calendar, so that a day has the same predictions in every load.
        let mut numbers = Numbers((now.as_second().div_euclid(86_400) - i64::from(age)) as u64);
        let is_busy = (1..=BUSY_DAYS).contains(&age);
        for (index, at) in times(&mut numbers, now, age).into_iter().enumerate() {
            let is_small = numbers.share() < 0.85;
            // Long articles prevail on busy days, which drift shows.
            let (a, b) = (numbers.next(), numbers.next());
            let draw = |number: u64| (number % articles.len() as u64) as usize;
            let longer = |&one: &usize| articles[one].article.len();
            let article = match is_busy {
                true => [draw(a), draw(b)]
                    .into_iter()
                    .max_by_key(longer)
                    .unwrap_or_default(),
                false => draw(a),
            };
            let ending = match numbers.share() {
                share if share < 0.06 => {
                    Ending::Error(numbers.choose(&ERRORS).unwrap_or(ErrorCode::Internal))
                }
                _ => Ending::Summary {
                    variant: (numbers.next() % 3) as usize + if is_small { 0 } else { VARIANTS - 3 },
                    has_reference: numbers.share() < 0.92,
                },
            };
            let made = templates
                .entry((article, ending))
                .or_insert_with(|| template(&articles[article], ending, &scorer, texts));
            if let Some(row) = made {
                let id = format!("sample-{}-{index}", at.as_second().div_euclid(86_400));
                rows.push(dated(row.clone(), id, at, is_small, is_busy, &mut numbers));
            }
        }
    }
    rows
}

/// Adds what differs between predictions of an article.
fn dated(
    mut row: PredictionRow,
    id: String,
    at: Timestamp,
    is_small: bool,
    is_busy: bool,
    numbers: &mut Numbers,
) -> PredictionRow {
    let channel = numbers.choose(&CHANNELS).unwrap_or(Channel::Api);
    let is_logged = channel == Channel::Other && row.error_code.is_empty();
    let channel = if is_logged || channel != Channel::Other {
        channel
    } else {
        Channel::Api
    };
    let lane = match channel {
        Channel::Batch => Lane::Bulk,
        Channel::Api if numbers.share() < 0.2 => Lane::High,
        _ => Lane::Normal,
    };
    let model = ModelRef {
        served_as: Token::sanitized(MODELS[usize::from(!is_small)]),
        name: MODELS[usize::from(!is_small)].to_owned(),
        revision: "invented".to_owned(),
    };
    let worker = WorkerRef {
        id: Token::sanitized(&format!("sample-worker-{}", numbers.next() % 3 + 1)),
        device: "cpu".to_owned(),
    };
    row.job_id = id;
    row.channel = channel.to_string();
    row.lane = lane.to_string();
    row.served_as = model.served_as.to_string();
    row.model = model.name;
    row.revision = model.revision;
    let was_run = !matches!(row.error_code.as_str(), "deadline_exceeded" | "unknown_model");
    let slower = if is_small { 1.0 } else { 3.0 };
    row.queue_ms = numbers.wait(if is_busy { 900.0 } else { 70.0 }) + 1.0;
    row.publish_ms = 0.8 + numbers.wait(0.8);
    row.attempt = if numbers.share() < 0.02 { 2 } else { 1 };
    if was_run {
        row.worker = worker.id.to_string();
        row.device = worker.device;
        row.batch_size = (numbers.next() % if is_busy { 16 } else { 6 } + 1) as u16;
        row.padding_ratio = (numbers.share() * 0.3) as f32;
        row.batch_wait_ms = numbers.wait(12.0);
        row.tokenize_ms = 0.6 + numbers.share();
        row.encode_ms = f64::from(row.text_tokens) * 0.11 * slower * (0.8 + 0.4 * numbers.share());
        row.decode_ms = f64::from(row.summary_tokens.max(3)) * 4.5 * slower * (0.8 + 0.6 * numbers.share());
    }
    let until_result = row.queue_ms + row.batch_wait_ms + row.tokenize_ms + row.encode_ms + row.decode_ms;
    row.end_to_end_ms = until_result + row.publish_ms;
    let before = |ms: f64| at - SignedDuration::from_millis(ms as i64);
    row.finished_at = at.as_millisecond();
    if is_logged {
        // A prediction that was made elsewhere and logged has no times and no worker.
        return logged(row);
    }
    row.submitted_at = before(until_result).as_millisecond();
    row.started_at = was_run.then(|| before(until_result - row.queue_ms).as_millisecond());
    row
}

/// Removes what a prediction that was made elsewhere does not have.
fn logged(row: PredictionRow) -> PredictionRow {
    let [.., external] = MODELS;
    PredictionRow {
        submitted_at: row.finished_at,
        served_as: external.to_owned(),
        model: external.to_owned(),
        worker: String::new(),
        device: String::new(),
        attempt: 1,
        batch_size: 0,
        padding_ratio: 0.0,
        queue_ms: 0.0,
        batch_wait_ms: 0.0,
        tokenize_ms: 0.0,
        encode_ms: 0.0,
        decode_ms: 0.0,
        publish_ms: 0.0,
        end_to_end_ms: 0.0,
        ..row
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use precis_runtime::config::MonitorConfig;

    use super::*;
    use crate::samples::articles;

    fn history(days: u32) -> Vec<PredictionRow> {
        let now = "2026-03-18T15:30:00Z".parse().unwrap();
        rows(&articles(), now, days, TextFilter::new(&MonitorConfig::default()))
    }

    #[test]
    fn the_history_fills_every_chart() {
        let rows = history(MAX_DAYS);
        assert!((1_800..2_200).contains(&rows.len()), "{}", rows.len());
        let distinct =
            |column: fn(&PredictionRow) -> String| rows.iter().map(column).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(|row| row.channel.clone()), CHANNELS.len());
        assert_eq!(distinct(|row| row.model.clone()), MODELS.len());
        assert_eq!(distinct(|row| row.outcome.clone()), 4);
        assert_eq!(distinct(|row| row.lane.clone()), 3);
        assert!(distinct(|row| row.error_code.clone()) > 3);
        assert_eq!(distinct(|row| (row.finished_at / 86_400_000).to_string()), 31);
        assert_eq!(
            distinct(|row| row.job_id.clone()),
            rows.len(),
            "every id is unique"
        );
        let scores: Vec<f64> = rows.iter().filter_map(|row| row.rouge1).collect();
        assert!(scores.len() > rows.len() / 2);
        let bins: BTreeSet<u8> = scores.iter().map(|score| (score * 10.0) as u8).collect();
        assert!(bins.len() > 4, "scores are spread: {bins:?}");
        assert!(
            rows.iter()
                .all(|row| row.tenant == SampleHistory::TENANT && row.metadata["sample"] == "true")
        );
        for row in &rows {
            assert!(row.submitted_at <= row.finished_at);
            assert_eq!(row.end_to_end_ms > 0.0, row.channel != "other", "{}", row.channel);
        }
    }

    #[test]
    fn busy_days_and_the_first_ones_have_enough_predictions_for_drift() {
        let rows = history(MAX_DAYS);
        let mut days: HashMap<i64, usize> = HashMap::new();
        for row in rows
            .iter()
            .filter(|row| row.model == MODELS[0] && row.rouge1.is_some())
        {
            *days.entry(row.finished_at / 86_400_000).or_default() += 1;
        }
        assert!(
            days.values().filter(|count| **count >= 200).count() >= 2,
            "{days:?}"
        );
    }

    #[test]
    fn loads_of_one_day_agree_and_a_short_retention_shortens_the_history() {
        assert_eq!(history(3), history(3));
        let whole = history(MAX_DAYS);
        let last: Vec<_> = whole.iter().rev().take(50).collect();
        let short = history(1);
        assert!(last.iter().all(|row| short.contains(row)));
        assert!(short.len() < whole.len());
    }
}
