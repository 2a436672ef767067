//! Every named query over 100 000 generated predictions, compared with values computed in the test.

mod documented;
mod extremes;
mod generated;
mod windows;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use precis_runtime::clock;
use precis_tests::{Options, Product, eventually};
use serde_json::{Value, json};

use self::documented::{columns_are_documented, statements_run};
use self::extremes::extremes_where_minutes_are_cut;
use self::generated::{Prediction, Random, SCORES, STAGES, store};
use self::windows::random_windows_are_recounted;
use crate::PROGRAM;

const ROWS: usize = 100_000;

struct Asked<'a> {
    product: &'a Product,
    window: String,
}

impl Asked<'_> {
    async fn rows(&self, query: &str, more: &str) -> Vec<Value> {
        let path = format!("/v1/analytics/{query}?{}{more}", self.window);
        let (status, answer) = self.product.get(&path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer["data"].as_array().unwrap().clone()
    }
}

fn number(row: &Value, column: &str) -> f64 {
    row[column]
        .as_f64()
        .unwrap_or_else(|| panic!("{column} of {row}"))
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
        "{found}, not {expected}"
    );
}

/// Asserts that a quantile is within one percent of the value of its rank, or of an adjacent one.
#[track_caller]
fn quantile_is_right(found: f64, values: &mut [f64], level: f64) {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() - 1) as f64 * level;
    let low = values[(rank.floor() as usize).saturating_sub(1)] * 0.989;
    let high = values[(rank.ceil() as usize + 1).min(values.len() - 1)] * 1.011;
    assert!(
        (low..=high).contains(&found),
        "{found} is not within {low}..{high}"
    );
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn by<K: Ord>(all: &[Prediction], key: impl Fn(&Prediction) -> K) -> BTreeMap<K, Vec<Prediction>> {
    let mut groups: BTreeMap<K, Vec<Prediction>> = BTreeMap::new();
    for one in all {
        groups.entry(key(one)).or_default().push(one.clone());
    }
    groups
}

fn hour(one: &Prediction) -> String {
    let time = Timestamp::from_millisecond(one.at).unwrap();
    time.strftime("%Y-%m-%d %H:00:00").to_string()
}

#[tokio::test]
async fn every_named_query_is_correct_on_a_hundred_thousand_predictions() {
    let product = Product::start(
        PROGRAM,
        Options {
            workers: 0,
            ..Options::default()
        },
    )
    .await;
    let today = clock::now().as_second() / 86_400 * 86_400;
    let begin = Timestamp::from_second(today - 5 * 86_400).unwrap();
    let mut random = Random(7);
    let all: Vec<Prediction> = (0..ROWS)
        .map(|index| Prediction::at_random(index, begin.as_millisecond(), &mut random))
        .collect();
    store(&product, &all).await;
    // A window of neither whole hours nor all data.
    let from = begin + SignedDuration::from_mins(7 * 60 + 13);
    let to = begin + SignedDuration::from_mins(2 * 1_440 + 5 * 60 + 41);
    let asked = Asked {
        product: &product,
        window: format!("from={from}&to={to}"),
    };
    let seen: Vec<Prediction> = all
        .iter()
        .filter(|one| (from.as_millisecond()..to.as_millisecond()).contains(&one.at))
        .cloned()
        .collect();
    let scored = seen.iter().filter(|one| one.scores.is_some()).count() as f64;
    let refreshed = async || {
        let models = asked.rows("models", "").await;
        let sum = |column: &str| models.iter().map(|row| number(row, column)).sum::<f64>();
        (sum("count") == seen.len() as f64 && sum("scored") == scored).then_some(())
    };
    eventually(
        Duration::from_secs(240),
        "the rollups contain all predictions",
        refreshed,
    )
    .await;

    columns_are_documented(&product).await;
    statements_run(&product).await;
    latency(&asked, &seen).await;
    counts(&asked, &seen).await;
    lengths_and_signals(&asked, &seen).await;
    scores(&asked, &seen).await;
    models(&asked, &seen).await;
    rows_themselves(&asked, &seen).await;
    extremes_where_minutes_are_cut(&product, &all).await;
    random_windows_are_recounted(&product, &all, &mut random, 9).await;
    // As if the minute rollups had expired: the rows take their place.
    product
        .query("CREATE OR REPLACE VIEW rollup_horizon AS SELECT toStartOfDay(now('UTC')) AS since")
        .await;
    product.query("TRUNCATE TABLE prediction_minutes").await;
    random_windows_are_recounted(&product, &all, &mut random, 3).await;
}

async fn latency(asked: &Asked<'_>, seen: &[Prediction]) {
    let large: Vec<Prediction> = seen.iter().filter(|one| one.model == "large").cloned().collect();
    for (more, seen) in [("", seen), ("&model=large", &large[..])] {
        let rows = asked.rows("latency", more).await;
        assert_eq!(rows.len(), STAGES.len());
        for (stage, name) in STAGES.iter().enumerate() {
            let row = rows.iter().find(|row| row["stage"] == *name).unwrap();
            let mut values: Vec<f64> = seen.iter().map(|one| one.stages[stage]).collect();
            for (column, level) in [
                ("p50_ms", 0.5),
                ("p90_ms", 0.9),
                ("p95_ms", 0.95),
                ("p99_ms", 0.99),
            ] {
                quantile_is_right(number(row, column), &mut values, level);
            }
        }
    }
    let hours = by(seen, hour);
    let rows = asked.rows("latency_over_time", "").await;
    assert_eq!(rows.len(), hours.len());
    for (row, (hour, group)) in rows.iter().zip(&hours) {
        assert_eq!(
            (row["time"].as_str(), number(row, "count")),
            (Some(hour.as_str()), group.len() as f64)
        );
        let mut values: Vec<f64> = group.iter().map(|one| one.stages[6]).collect();
        close(number(row, "mean_ms"), mean(values.iter().copied()));
        quantile_is_right(number(row, "p95_ms"), &mut values, 0.95);
        close(number(row, "max_ms"), values[values.len() - 1]);
    }
    let minutes = asked.rows("latency_over_time", "&bucket=minute").await;
    assert_eq!(
        minutes.iter().map(|row| number(row, "count")).sum::<f64>(),
        seen.len() as f64
    );
    assert_eq!(minutes.len(), by(seen, |one| one.at / 60_000).len());
}

async fn counts(asked: &Asked<'_>, seen: &[Prediction]) {
    let total = seen.len() as f64;
    let days = by(seen, |one| (one.at / 86_400_000, one.outcome(), one.channel));
    let rows = asked.rows("throughput", "&bucket=day").await;
    assert_eq!(rows.len(), days.len());
    for (row, ((day, outcome, channel), group)) in rows.iter().zip(&days) {
        let time = Timestamp::from_second(day * 86_400)
            .unwrap()
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string();
        assert_eq!(
            (&row["time"], &row["outcome"], &row["channel"]),
            (&json!(time), &json!(outcome), &json!(channel))
        );
        assert_eq!(number(row, "count"), group.len() as f64);
        let redelivered = group.iter().filter(|one| one.attempt > 1).count();
        assert_eq!(number(row, "redelivered"), redelivered as f64);
    }
    let errors = by(seen, |one| (one.error, one.model));
    let rows = asked.rows("errors", "").await;
    assert_eq!(
        rows.len(),
        errors.keys().filter(|(error, _)| !error.is_empty()).count()
    );
    for row in &rows {
        let key = (
            row["error_code"].as_str().unwrap(),
            row["model"].as_str().unwrap(),
        );
        assert_eq!(number(row, "count"), errors[&key].len() as f64);
        close(number(row, "share"), errors[&key].len() as f64 / total);
    }
    let acme: Vec<Prediction> = seen.iter().filter(|one| one.tenant == "acme").cloned().collect();
    let channels = by(&acme, |one| one.channel);
    let rows = asked.rows("channels", "&tenant=acme").await;
    assert_eq!(rows.len(), channels.len());
    for row in &rows {
        let group = &channels[row["channel"].as_str().unwrap()];
        assert_eq!(number(row, "count"), group.len() as f64);
        close(number(row, "share"), group.len() as f64 / acme.len() as f64);
        let referenced = group.iter().filter(|one| one.reference_chars > 0).count();
        assert_eq!(number(row, "referenced"), referenced as f64);
    }
}

async fn lengths_and_signals(asked: &Asked<'_>, seen: &[Prediction]) {
    let hours = by(seen, hour);
    let lengths = asked.rows("lengths", "").await;
    let signals = asked.rows("signals", "").await;
    assert_eq!((lengths.len(), signals.len()), (hours.len(), hours.len()));
    for ((row, signal), group) in lengths.iter().zip(&signals).zip(hours.values()) {
        let summarized: Vec<&Prediction> = group.iter().filter(|one| one.error.is_empty()).collect();
        let referenced: Vec<&Prediction> = group.iter().filter(|one| one.reference_chars > 0).collect();
        close(
            number(row, "text_chars"),
            mean(group.iter().map(|one| one.text[0] as f64)),
        );
        close(
            number(row, "truncated_tokens"),
            mean(group.iter().map(|one| one.text[2] as f64)),
        );
        close(
            number(row, "summary_chars"),
            mean(summarized.iter().map(|one| one.summary[0] as f64)),
        );
        close(
            number(row, "summary_tokens"),
            mean(summarized.iter().map(|one| one.summary[1] as f64)),
        );
        close(
            number(row, "reference_chars"),
            mean(referenced.iter().map(|one| one.reference_chars as f64)),
        );
        let compression = |one: &&Prediction| one.text[0] as f64 / one.summary[0] as f64;
        close(
            number(row, "compression"),
            mean(summarized.iter().map(compression)),
        );
        let compression = |one: &&Prediction| one.text[0] as f64 / one.reference_chars as f64;
        close(
            number(row, "reference_compression"),
            mean(referenced.iter().map(compression)),
        );
        assert_eq!(number(signal, "count"), summarized.len() as f64);
        for (at, column) in ["coverage", "density", "novel_bigrams", "repetition_rate"]
            .iter()
            .enumerate()
        {
            close(
                number(signal, column),
                mean(summarized.iter().filter_map(|one| one.signals).map(|all| all[at])),
            );
        }
        assert_eq!(
            number(signal, "empty"),
            group.iter().filter(|one| one.flags[0]).count() as f64
        );
        assert_eq!(
            number(signal, "truncated"),
            group.iter().filter(|one| one.flags[1]).count() as f64
        );
    }
}

async fn scores(asked: &Asked<'_>, seen: &[Prediction]) {
    for (at, name) in SCORES.iter().enumerate() {
        let days = by(seen, |one| one.at / 86_400_000);
        let rows = asked.rows("scores", &format!("&bucket=day&score={name}")).await;
        assert_eq!(rows.len(), days.len());
        for (row, group) in rows.iter().zip(days.values()) {
            let values: Vec<f64> = group
                .iter()
                .filter_map(|one| one.scores)
                .map(|all| all[at])
                .collect();
            assert_eq!(number(row, "count"), values.len() as f64);
            let centre = mean(values.iter().copied());
            close(number(row, "mean"), centre);
            close(
                number(row, "min"),
                values.iter().copied().fold(f64::MAX, f64::min),
            );
            close(number(row, "max"), values.iter().copied().fold(0.0, f64::max));
            let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
            close(
                number(row, "deviation"),
                (squares / (values.len() - 1) as f64).sqrt(),
            );
        }
        let top = if *name == "bleu" { 100.0 } else { 1.0 };
        let mut bins = [0; 20];
        for value in seen.iter().filter_map(|one| one.scores).map(|all| all[at]) {
            let bin = if *name == "bleu" {
                value / 5.0
            } else {
                value * 20.0
            };
            bins[(bin.floor() as usize).min(19)] += 1;
        }
        let rows = asked.rows("score_distribution", &format!("&score={name}")).await;
        let found: Vec<u64> = rows.iter().map(|row| row["count"].as_u64().unwrap()).collect();
        assert_eq!(found, bins, "{name}");
        close(number(&rows[19], "to"), top);
    }
}

async fn models(asked: &Asked<'_>, seen: &[Prediction]) {
    let groups = by(seen, |one| one.model);
    let rows = asked.rows("models", "").await;
    assert_eq!(rows.len(), groups.len());
    for row in &rows {
        let group = &groups[row["model"].as_str().unwrap()];
        let summarized = group.iter().filter(|one| one.error.is_empty()).count();
        close(number(row, "success"), summarized as f64 / group.len() as f64);
        let mut ends: Vec<f64> = group.iter().map(|one| one.stages[6]).collect();
        quantile_is_right(number(row, "p50_ms"), &mut ends, 0.5);
        let mut decodes: Vec<f64> = group.iter().map(|one| one.stages[4]).collect();
        quantile_is_right(number(row, "decode_p50_ms"), &mut decodes, 0.5);
        let scores = || group.iter().filter_map(|one| one.scores);
        close(number(row, "rouge2"), mean(scores().map(|all| all[1])));
        close(number(row, "bleu"), mean(scores().map(|all| all[4])));
        assert_eq!(number(row, "scored"), scores().count() as f64);
    }
}

async fn rows_themselves(asked: &Asked<'_>, seen: &[Prediction]) {
    let ids = |rows: &[Value]| -> Vec<String> {
        rows.iter()
            .map(|row| row["job_id"].as_str().unwrap().into())
            .collect()
    };
    let expected =
        |all: &[Prediction]| -> Vec<String> { all.iter().take(25).map(|one| one.id.clone()).collect() };
    let mut sorted = seen.to_vec();
    let latest_first = |a: &Prediction, b: &Prediction| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id));
    sorted.sort_by(|a, b| {
        b.stages[6]
            .total_cmp(&a.stages[6])
            .then_with(|| latest_first(a, b))
    });
    assert_eq!(ids(&asked.rows("slowest", "&limit=25").await), expected(&sorted));
    let score = |one: &Prediction| one.scores.unwrap()[1];
    sorted.retain(|one| one.scores.is_some());
    sorted.sort_by(|a, b| score(a).total_cmp(&score(b)).then_with(|| latest_first(a, b)));
    let rows = asked.rows("worst_scores", "&limit=25&score=rouge2").await;
    assert_eq!(ids(&rows), expected(&sorted));
    close(number(&rows[24], "score"), score(&sorted[24]));
    let mut latest: Vec<Prediction> = seen
        .iter()
        .filter(|one| one.channel == "batch")
        .cloned()
        .collect();
    latest.sort_by(latest_first);
    assert_eq!(
        ids(&asked.rows("recent", "&limit=25&channel=batch").await),
        expected(&latest)
    );
}
