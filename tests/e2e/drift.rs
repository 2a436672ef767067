//! Drift of models, compared with values computed in the test.

use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::clock;
use precis_tests::product::free_port;
use precis_tests::{Options, Product, eventually};
use serde_json::{Value, json};

use crate::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(90);
/// Predictions per day.
const ROWS: u64 = 300;
/// Days before today. The first seven are the baseline.
const DAYS: u64 = 10;

/// A prediction. Lengths have the same distribution on every day but the last, every third prediction has a score, and
/// the vector changes direction on the last day.
#[derive(Clone, Copy)]
struct Prediction {
    day: u64,
    index: u64,
}

impl Prediction {
    fn chars(self) -> f64 {
        let longer = if self.day == DAYS - 1 { 400 } else { 0 };
        (1_000 + (self.index * 7_919 + self.day * 13) % 500 + longer) as f64
    }

    fn rouge1(self) -> Option<f64> {
        let score = (self.index * 104_729 + self.day * 31) % 101;
        self.index.is_multiple_of(3).then_some(score as f64 / 101.0)
    }

    fn vector(self) -> [f64; 2] {
        let turn = (self.index % 10) as f64 / 16.0;
        if self.day == DAYS - 1 {
            [-1.0, turn]
        } else {
            [1.0, turn]
        }
    }

    fn row(self, first_day: i64) -> Value {
        let at = (first_day + self.day as i64) * 86_400_000 + self.index as i64 * 60_000;
        let at = Timestamp::from_millisecond(at).unwrap();
        let at = at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        json!({
            "job_id": format!("{}-{}", self.day, self.index), "finished_at": at, "submitted_at": at, "model": "m",
            "outcome": "succeeded", "text_chars": self.chars() as u64, "rouge1": self.rouge1(),
            "summary_embedding": self.vector(),
        })
    }
}

/// A baseline: bins at the deciles, mean and standard deviation of a sample, as `docs/internals/monitor.md` describes.
struct Baseline {
    edges: Vec<f64>,
    shares: Vec<f64>,
    mean: f64,
    deviation: f64,
}

impl Baseline {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |bin: usize| (bin as f64 / 10.0 * sorted.len() as f64) as usize;
        let edges: Vec<f64> = (1..10).map(|bin| sorted[rank(bin)]).collect();
        let mean = mean(values);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self {
            shares: shares(&edges, values),
            edges,
            mean,
            deviation: (squares / (values.len() - 1) as f64).sqrt(),
        }
    }

    fn stability_index(&self, now: &[f64]) -> f64 {
        let bins = self.shares.iter().zip(shares(&self.edges, now));
        bins.map(|(then, now)| (then.max(1e-4), now.max(1e-4)))
            .map(|(then, now)| (now - then) * (now / then).ln())
            .sum()
    }

    #[track_caller]
    fn agrees(&self, row: &Value, now: &[f64]) {
        assert_eq!(row["rows"], now.len());
        close(&row["mean"], mean(now));
        close(&row["psi"], self.stability_index(now));
        close(&row["mean_shift"], (mean(now) - self.mean) / self.deviation);
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn shares(edges: &[f64], values: &[f64]) -> Vec<f64> {
    let mut counts = [0_u32; 10];
    for value in values {
        counts[edges.iter().filter(|edge| value > edge).count()] += 1;
    }
    counts
        .map(|count| f64::from(count) / values.len() as f64)
        .to_vec()
}

#[track_caller]
fn close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    // Embeddings are stored as 32-bit floats.
    assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
}

/// Cosine distances to the baseline's mean vector.
fn distances(of: &[Prediction], centroid: [f64; 2]) -> Vec<f64> {
    let length = |v: [f64; 2]| v[0].hypot(v[1]);
    let distance = |v: [f64; 2]| {
        let product = v[0] * centroid[0] + v[1] * centroid[1];
        1.0 - product / (length(v) * length(centroid))
    };
    of.iter().map(|one| distance(one.vector())).collect()
}

#[tokio::test]
async fn drift_is_measured_against_the_pinned_baseline() {
    let settings = vec!["drift.min_rows=100".to_owned()];
    let options = Options {
        workers: 0,
        settings,
        ..Options::default()
    };
    let product = Product::start(PROGRAM, options).await;
    let first_day = clock::now().as_second() / 86_400 - DAYS as i64;
    let days: Vec<Vec<Prediction>> = (0..DAYS)
        .map(|day| (0..ROWS).map(|index| Prediction { day, index }).collect())
        .collect();
    let rows: Vec<Value> = days.iter().flatten().map(|one| one.row(first_day)).collect();
    product.insert("prediction_versions", &rows).await;
    // Another model with too few predictions.
    product
        .query(
            "INSERT INTO prediction_versions (job_id, finished_at, model, outcome, text_chars)
             SELECT toString(number), now() - INTERVAL 9 DAY, 'rare', 'succeeded', number FROM numbers(99)",
        )
        .await;
    // A third one has enough predictions on its ninth day, and all of its history is loaded at once.
    for (day, rows) in [(0, 40), (7, 50), (8, 300), (9, 90)] {
        let at = (first_day + day) * 86_400;
        product
            .query(&format!(
                "INSERT INTO prediction_versions (job_id, finished_at, model, outcome, text_chars)
                 SELECT toString(number), toDateTime({at}), 'slow', 'succeeded', number % 10 FROM numbers({rows})"
            ))
            .await;
    }
    // Drift is computed at startup.
    let listen = format!("127.0.0.1:{}", free_port());
    let monitor = product.command("monitor", "drift", &[format!("monitor.listen={listen}")]);

    let from = Timestamp::from_second(first_day * 86_400).unwrap();
    let ask = async |more: &str| {
        let (status, answer) = product
            .get(&format!("/v1/analytics/drift?from={from}{more}"))
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].as_array().unwrap().clone()
    };
    let found = eventually(PATIENCE, "drift is computed", async || {
        let rows = ask("&metric=text_chars&model=m").await;
        assert!(
            !monitor.output().contains("can't be computed"),
            "{}",
            monitor.output()
        );
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    let compared = &days[(DAYS - 7) as usize..];
    assert_eq!(found.len(), compared.len());
    assert!(ask("&model=rare").await.is_empty());
    let slow = ask("&metric=text_chars&model=slow").await;
    let [only] = &slow[..] else {
        panic!("the other days have too few predictions: {slow:?}")
    };
    assert_eq!(only["rows"], 300);
    let sql = "SELECT rows, toUnixTimestamp(window_to) AS end FROM drift_baselines FINAL
        WHERE model = 'slow' AND metric = 'text_chars'";
    let baseline = product.query(sql).await.remove(0);
    assert_eq!(baseline["rows"].as_u64(), Some(390));
    assert_eq!(baseline["end"].as_i64(), Some((first_day + 9) * 86_400));

    let pinned: Vec<Prediction> = days[..7].concat();
    let chars = |of: &[Prediction]| -> Vec<f64> { of.iter().map(|one| one.chars()).collect() };
    let baseline = Baseline::of(&chars(&pinned));
    for (row, day) in found.iter().zip(compared) {
        baseline.agrees(row, &chars(day));
    }
    let scores = |of: &[Prediction]| -> Vec<f64> { of.iter().filter_map(|one| one.rouge1()).collect() };
    let baseline = Baseline::of(&scores(&pinned));
    let found = ask("&metric=rouge1&model=m").await;
    assert_eq!(found.len(), compared.len());
    for (row, day) in found.iter().zip(compared) {
        baseline.agrees(row, &scores(day));
    }
    let sum = |place: usize| mean(&pinned.iter().map(|one| one.vector()[place]).collect::<Vec<_>>());
    let centroid = [sum(0), sum(1)];
    let baseline = Baseline::of(&distances(&pinned, centroid));
    let found = ask("&metric=summary_embedding").await;
    assert_eq!(found.len(), compared.len());
    for (row, day) in found.iter().zip(compared) {
        baseline.agrees(row, &distances(day, centroid));
    }

    let alerts = ask("&alerts=only").await;
    let of_alerts: Vec<&str> = alerts.iter().map(|row| row["metric"].as_str().unwrap()).collect();
    assert_eq!(of_alerts, ["summary_embedding", "text_chars"], "{alerts:?}");
    let metrics = product.http.get(format!("http://{listen}/metrics")).send().await;
    let metrics = metrics.unwrap().text().await.unwrap();
    for (metric, value) in [("text_chars", 1), ("summary_embedding", 1), ("rouge1", 0)] {
        let line = format!("precis_monitor_drift_alert{{model=\"m\",metric=\"{metric}\"}} {value}");
        assert!(metrics.contains(&line), "{metrics}");
    }
    let log = monitor.output();
    assert_eq!(log.matches("a model has drifted").count(), 2, "{log}");

    // An explicit window replaces the first days. Compared with its own day, nothing drifts.
    let day = |back: i64| Timestamp::from_second((first_day + DAYS as i64 - back) * 86_400).unwrap();
    let settings = [
        format!("monitor.listen=127.0.0.1:{}", free_port()),
        format!("drift.baseline_from={}", day(1)),
        format!("drift.baseline_to={}", day(0)),
    ];
    let _monitor = product.command("monitor", "drift-window", &settings);
    let last = eventually(PATIENCE, "drift is computed again", async || {
        let last = ask("&metric=text_chars&model=m").await.pop()?;
        (last["alert"] == false).then_some(last)
    })
    .await;
    close(&last["psi"], 0.0);
    close(&last["mean_shift"], 0.0);
}
