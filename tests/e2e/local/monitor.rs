//! Reporting summaries to a monitor without a queue.

use precis_tests::eventually;
use serde_json::json;

use super::{MINUTE, article, gateway, metrics};
use crate::shared;

#[tokio::test]
async fn summaries_are_reported_to_a_monitor_and_scored() {
    let deployment = shared().await;
    let setting = format!("local.monitor_url={}", deployment.monitor);
    let (product, _process) = gateway(&[&setting]).await;
    let text = format!("The gateway without a queue reports this. {}", article());
    let body = json!({"articles": [text], "targets": ["Trams are free."]});
    let (status, answer) = product.post("/score", &body).await;
    assert_eq!(status, 200, "{answer}");
    let sql = "SELECT channel, summary, reference, rouge1 FROM predictions \
               WHERE startsWith(text, 'The gateway without a queue reports this.')";
    let row = eventually(MINUTE, "the row exists", async || {
        let mut rows = deployment.try_query(sql).await.ok()?;
        assert!(rows.len() < 2, "{rows:?}");
        rows.pop()
    })
    .await;
    assert_eq!(row["channel"], "lambda");
    assert_eq!(row["reference"], "Trams are free.");
    let rouge1 = row["rouge1"].as_f64().expect("it is scored");
    assert!(
        (rouge1 - answer["rouge1"].as_f64().unwrap()).abs() < 1e-9,
        "{row} {answer}"
    );
    let metrics = metrics(&product).await;
    assert!(
        metrics.contains("precis_api_monitor_reports_total{outcome=\"accepted\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_unreachable_monitor_blocks_nothing_and_is_counted() {
    let (product, _process) = gateway(&["local.monitor_url=http://127.0.0.1:1"]).await;
    let done = product.summarize(&json!({"text": article()})).await;
    assert!(done.summary.is_some());
    eventually(MINUTE, "the report is dropped", async || {
        let metrics = metrics(&product).await;
        metrics
            .contains("precis_api_monitor_reports_total{outcome=\"dropped\"} 1")
            .then_some(())
    })
    .await;
}
