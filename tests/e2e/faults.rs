//! What happens when something is killed.

use std::time::Duration;

use precis_schemas::rest::Status;
use precis_tests::product::{eventually, id_of};
use precis_tests::{Options, Product, samples};
use rustix::process::Signal;
use serde_json::json;

use crate::PROGRAM;

/// A product without workers, whose jobs come again soon after their worker is gone.
async fn without_workers() -> Product {
    let settings = vec!["worker.ack_wait_seconds=3".into()];
    Product::start(PROGRAM, Options { workers: 0, settings }).await
}

/// A request that keeps a worker busy for a while.
fn long_request() -> serde_json::Value {
    let text = samples::get("geothermal-skarn-valley").article;
    json!({"text": text, "params": {"num_beams": 64, "min_new_tokens": 120, "max_new_tokens": 120}})
}

async fn worker_is_known(product: &Product) {
    eventually(Duration::from_secs(60), "a worker is known", async || {
        let (status, models) = product.get("/v1/models").await;
        (status == 200 && models.to_string().contains("default")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_loses_nothing_and_doubles_nothing() {
    let product = without_workers().await;
    let first = product.worker("first", &[]);
    worker_is_known(&product).await;
    let submitted = product.submit(&long_request()).await;
    product.running(&submitted.id).await;
    first.kill();
    let _second = product.worker("second", &[]);
    let view = product.finished(&submitted.id).await;
    assert_eq!(view.status, Status::Succeeded, "{view:?}");
    assert_eq!(view.attempt, Some(2));
    assert_eq!(view.worker.unwrap().id.as_str(), "second");
    let rows = product.rows_of(&id_of(&submitted.id)).await;
    assert_eq!((rows.len(), rows[0]["attempt"].as_u64()), (1, Some(2)));
}

#[tokio::test]
async fn a_worker_asked_to_stop_finishes_what_it_has_begun() {
    let product = without_workers().await;
    let mut worker = product.worker("polite", &[]);
    worker_is_known(&product).await;
    let submitted = product.submit(&long_request()).await;
    product.running(&submitted.id).await;
    worker.signal(Signal::TERM);
    let status = worker.ended(Duration::from_secs(60)).await;
    assert!(status.success(), "{}", worker.output());
    let view = product.finished(&submitted.id).await;
    assert_eq!((view.status, view.attempt), (Status::Succeeded, Some(1)));
}

#[tokio::test]
async fn a_job_whose_deadline_passes_while_it_is_decoded_leaves_the_batch() {
    let product = without_workers().await;
    let _worker = product.worker("only", &[]);
    worker_is_known(&product).await;
    let mut request = long_request();
    request["ttl_seconds"] = 1.into();
    request["params"]["max_new_tokens"] = 500.into();
    request["params"]["min_new_tokens"] = 500.into();
    let submitted = product.submit(&request).await;
    let view = product.finished(&submitted.id).await;
    assert_eq!(view.status, Status::Expired);
    assert_eq!(view.error.unwrap().code.as_str(), "deadline_exceeded");
}
