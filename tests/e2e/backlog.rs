//! The metric by which workers are scaled.

use std::time::Duration;

use precis_tests::{Product, eventually, samples};
use serde_json::json;

use crate::jobs::with_waiting_jobs;

const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the value of a metric of the monitor for a lane.
async fn value(product: &Product, metric: &str, lane: &str) -> Option<f64> {
    let page = product.http.get(format!("{}/metrics", product.monitor));
    let page = page.send().await.ok()?.text().await.ok()?;
    let line = page.lines().find(|line| {
        line.starts_with(&format!("{metric}{{")) && line.contains(r#"model="default""#) && line.contains(lane)
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn the_work_in_the_queue_is_known_without_workers() {
    // One token a second.
    let product = with_waiting_jobs(&["monitor.assumed_tokens_per_second=1"]).await;
    let work = async |lane: &str| value(&product, "precis_queue_work_seconds", lane).await;
    for lane in ["high", "normal", "bulk"] {
        let is_idle = async || work(lane).await.filter(|seconds| *seconds == 0.0);
        eventually(PATIENCE, "an idle lane has a value", is_idle).await;
    }
    let sample = samples::get("tramway-fare-free");
    for _ in 0..3 {
        let body = json!({"text": sample.article, "priority": "bulk"});
        product.submit(&body).await;
    }
    // Between three and eight bytes a token.
    let bytes = 3.0 * sample.article.len() as f64;
    let seconds = eventually(PATIENCE, "the work is exported", async || {
        work("bulk").await.filter(|seconds| *seconds > bytes / 8.0)
    })
    .await;
    assert!(seconds < bytes / 3.0 + 300.0, "{seconds}");
    assert_eq!(work("high").await, Some(0.0));
    let _worker = product.worker("returned", &[]);
    let is_done = async || work("bulk").await.filter(|seconds| *seconds == 0.0);
    eventually(PATIENCE, "the work is done", is_done).await;
}
