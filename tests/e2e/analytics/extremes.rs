//! Extreme rows at the edges of a window.

use std::time::Duration;

use jiff::Timestamp;
use precis_tests::{Product, eventually};

use super::generated::Prediction;

/// Windows that start right after, or end with, the slowest job or the job with the worst score. Its minute is then in
/// the rollups, but the job is outside the window. Without marks, so that only rollups locate candidates.
pub(super) async fn extremes_where_minutes_are_cut(product: &Product, all: &[Prediction]) {
    let counted = "SELECT sum(predictions) AS n FROM prediction_days FINAL";
    eventually(
        Duration::from_secs(240),
        "the rollups contain all days",
        async || (product.query(counted).await[0]["n"] == all.len()).then_some(()),
    )
    .await;
    product.query("TRUNCATE TABLE dirty_minutes").await;
    let latest_first = |a: &Prediction, b: &Prediction| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id));
    let mut slowest = all.to_vec();
    slowest.sort_by(|a, b| {
        b.stages[6]
            .total_cmp(&a.stages[6])
            .then_with(|| latest_first(a, b))
    });
    let mut worst: Vec<Prediction> = all.iter().filter(|one| one.scores.is_some()).cloned().collect();
    let score = |one: &Prediction| one.scores.unwrap()[1];
    worst.sort_by(|a, b| score(a).total_cmp(&score(b)).then_with(|| latest_first(a, b)));
    for (query, sorted) in [("slowest?", slowest), ("worst_scores?score=rouge2", worst)] {
        for first in &sorted[..3] {
            for (from, to) in [
                (first.at + 1, first.at + 40_000),
                (first.at + 1, first.at + 20 * 60_000),
                (first.at + 1, first.at + 7 * 3_600_000),
                (first.at - 30 * 3_600_000, first.at),
            ] {
                let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
                for limit in [1, 30, 1_000] {
                    let path = format!(
                        "/v1/analytics/{query}&from={}&to={}&limit={limit}",
                        time(from),
                        time(to)
                    );
                    let (status, answer) = product.get(&path).await;
                    assert_eq!(status, 200, "{path}: {answer}");
                    let found: Vec<&str> = answer["data"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|row| row["job_id"].as_str().unwrap())
                        .collect();
                    let within = sorted.iter().filter(|one| (from..to).contains(&one.at));
                    let expected: Vec<&str> = within.take(limit).map(|one| one.id.as_str()).collect();
                    assert_eq!(found, expected, "{path}");
                }
            }
        }
    }
}
