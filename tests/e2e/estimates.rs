//! How good the estimates of waiting times are on this machine. Run with `--ignored --nocapture`.
//!
//! `api/src/queue/eta/simulation.rs` tests their limits on a simulated worker. Here the machine decides.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::batch_view::BatchView;
use precis_schemas::rest::{JobView, Status};
use precis_tests::{Options, Product, samples};
use serde_json::json;

use crate::PROGRAM;

/// What was said about a job.
struct Statement {
    id: String,
    at: Timestamp,
    position: u64,
    seconds: f64,
    p90: f64,
    at_submission: bool,
}

struct Watched {
    product: Product,
    lanes: HashMap<String, &'static str>,
    open: Vec<String>,
    ended: HashMap<String, JobView>,
    statements: Vec<Statement>,
    texts: usize,
}

impl Watched {
    async fn start() -> Self {
        let options = Options {
            workers: 1,
            ..Options::default()
        };
        Self {
            product: Product::start(PROGRAM, options).await,
            lanes: HashMap::new(),
            open: Vec::new(),
            ended: HashMap::new(),
            statements: Vec::new(),
            texts: 0,
        }
    }

    /// Returns a text that no other job has.
    fn text(&mut self) -> String {
        self.texts += 1;
        let articles = samples::all();
        format!(
            "{}. {}",
            self.texts,
            articles[self.texts % articles.len()].article
        )
    }

    async fn submit(&mut self, lane: &'static str, count: usize) {
        for _ in 0..count {
            let body = json!({"text": self.text(), "priority": lane});
            let (status, view) = self.product.post("/v1/summaries", &body).await;
            assert_eq!(status, 202, "{view}");
            let view: JobView = serde_json::from_value(view).unwrap();
            self.note(&view, true);
            self.lanes.insert(view.id.clone(), lane);
            self.open.push(view.id);
        }
    }

    fn note(&mut self, view: &JobView, at_submission: bool) {
        if let (Some(position), Some(seconds), Some(p90)) =
            (view.position, view.eta_seconds, view.eta_seconds_p90)
        {
            self.statements.push(Statement {
                id: view.id.clone(),
                at: clock::now(),
                position,
                seconds,
                p90,
                at_submission,
            });
        }
    }

    /// Asks about every open job.
    async fn ask(&mut self) {
        for id in std::mem::take(&mut self.open) {
            let (_, view) = self.product.get(&format!("/v1/jobs/{id}")).await;
            let view: JobView = serde_json::from_value(view).unwrap();
            if view.status.is_final() {
                assert_eq!(view.status, Status::Succeeded, "{view:?}");
                self.ended.insert(id, view);
            } else {
                self.note(&view, false);
                self.open.push(id);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    async fn finish(&mut self) {
        while !self.open.is_empty() {
            self.ask().await;
        }
    }

    fn report(&self, what: &str, of: impl Fn(&Statement) -> bool) {
        let (mut errors, mut positions, mut within) = (Vec::new(), Vec::new(), 0);
        for statement in self.statements.iter().filter(|statement| of(statement)) {
            let view = &self.ended[&statement.id];
            let actual = view
                .finished_at
                .unwrap()
                .duration_since(statement.at)
                .as_secs_f64();
            if actual <= 0.0 {
                continue;
            }
            errors.push((statement.seconds - actual).abs() / actual);
            within += usize::from(actual <= statement.p90);
            let lane = self.lanes[&statement.id];
            let started_between = self.ended.iter().filter(|(id, other)| {
                self.lanes[*id] == lane
                    && other.started_at > Some(statement.at)
                    && other.started_at < view.started_at
            });
            positions.push((statement.position as f64 - started_between.count() as f64).abs());
        }
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        println!(
            "{what}: {} statements, median error {:.0} %, {:.0} % within p90, median error of the position {}",
            errors.len(),
            100.0 * median(&mut errors),
            100.0 * within as f64 / errors.len().max(1) as f64,
            median(&mut positions),
        );
    }
}

#[tokio::test]
#[ignore = "measures this machine"]
async fn estimates_are_measured() {
    let mut watched = Watched::start().await;
    watched.submit("normal", 40).await;
    watched.finish().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    watched.statements.clear();

    watched.submit("normal", 120).await;
    watched.finish().await;
    watched.report("one lane, at submission", |statement| statement.at_submission);
    watched.report("one lane, later", |statement| !statement.at_submission);
    watched.statements.clear();

    watched.submit("bulk", 120).await;
    for _ in 0..12 {
        watched.submit("normal", 6).await;
        watched.submit("high", 2).await;
        watched.ask().await;
    }
    watched.finish().await;
    watched.report("mixed lanes", |_| true);
    for lane in ["bulk", "normal", "high"] {
        watched.report(lane, |statement| watched.lanes[&statement.id] == lane);
    }

    let rows: Vec<String> = (0..150).map(|_| watched.text()).collect();
    let (status, batch) = watched.product.post("/v1/batches", &json!(rows)).await;
    assert_eq!(status, 202, "{batch}");
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    let mut said = Vec::new();
    let ended = loop {
        let (_, view) = watched.product.get(&path).await;
        let view: BatchView = serde_json::from_value(view).unwrap();
        said.extend(view.eta_seconds.map(|seconds| (clock::now(), seconds as f64)));
        if let Some(finished_at) = view.finished_at {
            break finished_at;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let mut errors: Vec<f64> = said
        .iter()
        .map(|(at, seconds)| (ended.duration_since(*at).as_secs_f64(), seconds))
        .filter(|(actual, _)| *actual > 0.0)
        .map(|(actual, seconds)| (seconds - actual).abs() / actual)
        .collect();
    errors.sort_by(f64::total_cmp);
    println!(
        "batch: {} statements, median error {:.0} %",
        errors.len(),
        100.0 * errors[errors.len() / 2]
    );
}
