//! Cancelling a batch while its rows run.

use std::time::Duration;

use precis_schemas::batch_view::{BatchLine, BatchStatus, BatchView};
use precis_schemas::rest::Status;
use precis_tests::{Product, eventually};

use crate::shared;

/// Rows that decode for a while, so that most still wait when the first has ended.
const ROWS: usize = 400;
const PARAMS: &str = "%7B%22num_beams%22%3A8%2C%22min_new_tokens%22%3A60%2C%22first_sentence%22%3Afalse%7D";

async fn cancel(product: &Product, id: &str) -> BatchView {
    let answer = product
        .http
        .delete(format!("{}/v1/batches/{id}", product.api))
        .send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn open_rows_are_cancelled_and_finished_ones_keep_their_results() {
    let product = shared().await;
    let body: String = (0..ROWS)
        .map(|row| format!("\"Rain fell over the hills in week {row}.\"\n"))
        .collect();
    let upload = product
        .http
        .post(format!("{}/v1/batches?params={PARAMS}", product.api))
        .header("content-type", "application/x-ndjson")
        .body(body);
    let accepted: BatchView = upload.send().await.unwrap().json().await.unwrap();
    let path = format!("/v1/batches/{}", accepted.id);
    eventually(Duration::from_secs(120), "a row has ended", async || {
        let (_, view) = product.get(&path).await;
        (view["counts"]["succeeded"].as_u64() > Some(0)).then_some(())
    })
    .await;

    // A row that moves between queue and worker may need the second request.
    let cancelled = eventually(Duration::from_secs(60), "no row is open", async || {
        let view = cancel(product, &accepted.id).await;
        (view.status == BatchStatus::Finished).then_some(view)
    })
    .await;
    assert!(cancelled.counts.cancelled > 0, "{:?}", cancelled.counts);
    assert_eq!(
        cancelled.counts.succeeded + cancelled.counts.cancelled,
        ROWS as u64
    );
    let again = cancel(product, &accepted.id).await;
    assert_eq!(again.counts, cancelled.counts);

    let (_, text) = product.get(&format!("{path}/results")).await;
    let lines: Vec<BatchLine> = text
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), ROWS);
    let with_summary = lines.iter().filter(|line| line.summary.is_some()).count() as u64;
    assert_eq!(with_summary, cancelled.counts.succeeded);
    assert!(
        lines
            .iter()
            .all(|line| matches!(line.status, Status::Succeeded | Status::Cancelled))
    );
}
