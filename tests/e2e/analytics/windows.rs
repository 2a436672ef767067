//! Random windows, most of which cut minutes: every query over them, against a recount of the same predictions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use precis_tests::Product;
use serde_json::Value;

use super::generated::{DAYS, Prediction, Random, SCORES};
use super::{by, close, mean, number, quantile_is_right};

/// A window, with the predictions in it.
struct Window<'a> {
    product: &'a Product,
    bounds: String,
    seen: Vec<Prediction>,
}

impl Window<'_> {
    async fn rows(&self, query: &str) -> Vec<Value> {
        let path = format!("/v1/analytics/{query}&{}", self.bounds);
        let (status, answer) = self.product.get(&path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer["data"].as_array().unwrap().clone()
    }

    /// Runs a query and returns its rows by these columns.
    async fn rows_by(&self, query: &str, columns: &[&str]) -> BTreeMap<Vec<String>, Value> {
        let rows = self.rows(query).await;
        let count = rows.len();
        let key = |row: &Value| {
            let cells = columns.iter();
            cells
                .map(|column| row[*column].as_str().unwrap().to_owned())
                .collect()
        };
        let rows: BTreeMap<Vec<String>, Value> = rows.into_iter().map(|row| (key(&row), row)).collect();
        assert_eq!(rows.len(), count, "{query} has two rows of one group");
        rows
    }

    /// Asserts that the counts of a query are those of the groups, and returns both.
    async fn counted(
        &self,
        query: &str,
        columns: &[&str],
        key: impl Fn(&Prediction) -> Vec<String>,
    ) -> Vec<(Value, Vec<Prediction>)> {
        let mut found = self.rows_by(query, columns).await;
        let groups = by(&self.seen, key);
        let counts: BTreeMap<_, u64> = found
            .iter()
            .map(|(key, row)| (key.clone(), row["count"].as_u64().unwrap()))
            .collect();
        let expected: BTreeMap<_, u64> = groups
            .iter()
            .map(|(key, group)| (key.clone(), group.len() as u64))
            .collect();
        assert_eq!(counts, expected, "{query}&{}", self.bounds);
        groups
            .into_iter()
            .map(|(key, group)| (found.remove(&key).unwrap(), group))
            .collect()
    }
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// Asserts every query over `count` windows of a millisecond to days.
pub(super) async fn random_windows_are_recounted(
    product: &Product,
    all: &[Prediction],
    random: &mut Random,
    count: usize,
) {
    let first = all.iter().map(|one| one.at).min().unwrap();
    let span = DAYS * 86_400_000;
    for turn in 0..count {
        let length = (random.share() * (span as f64).ln()).exp() as i64 + 1;
        // Every third window ends with a prediction: the next one to the last is then the newest.
        let to = match turn % 3 {
            0 => all[random.below(all.len() as u64) as usize].at,
            _ => first + random.below(span as u64) as i64,
        };
        let from = to - length;
        let seen = all
            .iter()
            .filter(|one| (from..to).contains(&one.at))
            .cloned()
            .collect();
        let bounds = format!("from={}&to={}", time(from), time(to));
        let window = Window {
            product,
            bounds,
            seen,
        };
        let bucket = ["minute", "hour", "day"][turn % 3];
        over_time(&window, bucket).await;
        groups(&window).await;
        lists(&window, [1, 10, 100][turn / 3 % 3]).await;
    }
}

async fn over_time(window: &Window<'_>, bucket: &str) {
    let width = match bucket {
        "minute" => 60_000,
        "hour" => 3_600_000,
        _ => 86_400_000,
    };
    let begin = |one: &Prediction| {
        let start = time(one.at / width * width);
        start.strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    let key = |one: &Prediction| vec![begin(one), one.outcome().to_owned(), one.channel.to_owned()];
    let query = format!("throughput?bucket={bucket}");
    for (row, group) in window.counted(&query, &["time", "outcome", "channel"], key).await {
        let redelivered = group.iter().filter(|one| one.attempt > 1).count();
        assert_eq!(row["redelivered"].as_u64(), Some(redelivered as u64));
    }
    let query = format!("latency_over_time?bucket={bucket}&group_by=model");
    let key = |one: &Prediction| vec![begin(one), one.model.to_owned()];
    for (row, group) in window.counted(&query, &["time", "group"], key).await {
        let ends = || group.iter().map(|one| one.stages[6]);
        close(number(&row, "mean_ms"), mean(ends()));
        close(number(&row, "max_ms"), ends().fold(0.0, f64::max));
    }
    let query = format!("lengths?bucket={bucket}");
    for (row, group) in window.counted(&query, &["time"], |one| vec![begin(one)]).await {
        close(
            number(&row, "text_chars"),
            mean(group.iter().map(|one| one.text[0] as f64)),
        );
    }
    let signals = window
        .rows_by(&format!("signals?bucket={bucket}"), &["time"])
        .await;
    let signalled: Vec<Prediction> = window
        .seen
        .iter()
        .filter(|one| one.signals.is_some())
        .cloned()
        .collect();
    let expected = by(&signalled, |one| vec![begin(one)]);
    assert!(signals.keys().eq(expected.keys()), "{}", window.bounds);
    for (row, group) in signals.values().zip(expected.values()) {
        assert_eq!(row["count"].as_u64(), Some(group.len() as u64));
        close(
            number(row, "coverage"),
            mean(group.iter().map(|one| one.signals.unwrap()[0])),
        );
    }
    let scored: Vec<Prediction> = window
        .seen
        .iter()
        .filter(|one| one.scores.is_some())
        .cloned()
        .collect();
    for (at, score) in SCORES.iter().enumerate() {
        let rows = window
            .rows_by(&format!("scores?bucket={bucket}&score={score}"), &["time"])
            .await;
        let expected = by(&scored, |one| vec![begin(one)]);
        assert!(rows.keys().eq(expected.keys()), "{}", window.bounds);
        for (row, group) in rows.values().zip(expected.values()) {
            let values = || group.iter().map(|one| one.scores.unwrap()[at]);
            assert_eq!(row["count"].as_u64(), Some(group.len() as u64));
            close(number(row, "mean"), mean(values()));
            close(number(row, "min"), values().fold(f64::MAX, f64::min));
            close(number(row, "max"), values().fold(0.0, f64::max));
        }
        let rows = window.rows(&format!("score_distribution?score={score}")).await;
        let counted: u64 = rows.iter().map(|row| row["count"].as_u64().unwrap()).sum();
        assert_eq!(counted, scored.len() as u64, "{}", window.bounds);
    }
}

async fn groups(window: &Window<'_>) {
    let total = window.seen.len() as f64;
    let failed: Vec<Prediction> = window
        .seen
        .iter()
        .filter(|one| !one.error.is_empty())
        .cloned()
        .collect();
    let errors = window.rows_by("errors?", &["error_code", "model"]).await;
    let expected = by(&failed, |one| vec![one.error.to_owned(), one.model.to_owned()]);
    assert!(errors.keys().eq(expected.keys()), "{}", window.bounds);
    for (row, group) in errors.values().zip(expected.values()) {
        assert_eq!(row["count"].as_u64(), Some(group.len() as u64));
        close(number(row, "share"), group.len() as f64 / total);
        let last = time(group.iter().map(|one| one.at).max().unwrap());
        let last = last.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        assert_eq!(row["last_seen"], last.as_str(), "{}", window.bounds);
    }
    for (row, group) in window
        .counted("channels?", &["channel"], |one| vec![one.channel.into()])
        .await
    {
        close(number(&row, "share"), group.len() as f64 / total);
        let failed = group.iter().filter(|one| !one.error.is_empty()).count();
        assert_eq!(row["failed"].as_u64(), Some(failed as u64));
        let scores: Vec<f64> = group
            .iter()
            .filter_map(|one| one.scores)
            .map(|all| all[1])
            .collect();
        assert_eq!(row["scored"].as_u64(), Some(scores.len() as u64));
        if !scores.is_empty() {
            close(number(&row, "rouge2"), mean(scores.iter().copied()));
        }
    }
    for (row, group) in window
        .counted("models?", &["model"], |one| vec![one.model.into()])
        .await
    {
        let scored = group.iter().filter(|one| one.scores.is_some()).count();
        assert_eq!(row["scored"].as_u64(), Some(scored as u64));
    }
    let succeeded: Vec<Prediction> = window
        .seen
        .iter()
        .filter(|one| one.error.is_empty())
        .cloned()
        .collect();
    let tenants = by(&succeeded, |one| one.tenant.to_owned());
    let rows = window
        .rows_by("latency?outcome=succeeded&group_by=tenant", &["group", "stage"])
        .await;
    assert_eq!(rows.len(), 7 * tenants.len(), "{}", window.bounds);
    for (tenant, group) in &tenants {
        let row = &rows[&vec![tenant.clone(), "decode".to_owned()]];
        assert_eq!(row["count"].as_u64(), Some(group.len() as u64));
        let mut values: Vec<f64> = group.iter().map(|one| one.stages[4]).collect();
        quantile_is_right(number(row, "p95_ms"), &mut values, 0.95);
    }
}

async fn lists(window: &Window<'_>, limit: usize) {
    let latest_first = |a: &Prediction, b: &Prediction| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id));
    let mut latest = window.seen.clone();
    latest.sort_by(latest_first);
    let mut slowest = window.seen.clone();
    slowest.sort_by(|a, b| {
        b.stages[6]
            .total_cmp(&a.stages[6])
            .then_with(|| latest_first(a, b))
    });
    let score = |one: &Prediction| one.scores.unwrap()[0];
    let mut worst: Vec<Prediction> = window
        .seen
        .iter()
        .filter(|one| one.scores.is_some())
        .cloned()
        .collect();
    worst.sort_by(|a, b| score(a).total_cmp(&score(b)).then_with(|| latest_first(a, b)));
    for (query, sorted) in [("recent", latest), ("slowest", slowest), ("worst_scores", worst)] {
        let rows = window.rows(&format!("{query}?limit={limit}")).await;
        let found: Vec<&str> = rows.iter().map(|row| row["job_id"].as_str().unwrap()).collect();
        let expected: Vec<&str> = sorted.iter().take(limit).map(|one| one.id.as_str()).collect();
        assert_eq!(found, expected, "{query}?limit={limit}&{}", window.bounds);
    }
}
