//! Room in the queue: what uploads and tenants leave to others, and what waiting jobs cost.

use std::time::Duration;

use futures::StreamExt;
use precis_schemas::rest::Status;
use precis_tests::{Product, eventually, id_of};
use serde_json::{Value, json};

use crate::jobs::with_waiting_jobs;

const PATIENCE: Duration = Duration::from_secs(60);

async fn submit(product: &Product, priority: &str) -> (u16, Value) {
    let body = json!({"text": "Rain fell on the coast.", "priority": priority});
    product.post("/v1/summaries", &body).await
}

async fn queued(product: &Product) -> u64 {
    let jobs = product.nats().await.get_stream("JOBS").await.unwrap();
    jobs.cached_info().state.messages
}

async fn upload(product: &Product, query: &str) -> Value {
    let rows = "Rain fell on the coast.\n".repeat(150);
    let request = product.http.post(format!("{}/v1/batches{query}", product.api));
    let request = request
        .header("content-type", "text/csv")
        .body(format!("article\n{rows}"));
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn an_upload_leaves_room_for_interactive_jobs() {
    let product = with_waiting_jobs(&["queue.max_jobs=100", "batches.queue_patience_seconds=2"]).await;
    // The priority of an upload gives it no more room.
    for query in ["?priority=high", ""] {
        let problem = upload(&product, query).await;
        assert_eq!(problem["code"], "queue_full", "{problem}");
        let jobs = queued(&product).await;
        assert!((80..90).contains(&jobs), "{jobs}");
    }
    let (status, problem) = submit(&product, "bulk").await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (503, Some("queue_full")),
        "{problem}"
    );
    for priority in ["normal", "high"] {
        let (status, job) = submit(&product, priority).await;
        assert_eq!(status, 202, "{job}");
    }
}

#[tokio::test]
async fn a_direct_publisher_leaves_room_for_other_tenants_and_lanes() {
    let product = with_waiting_jobs(&["queue.max_jobs=100"]).await;
    let context = product.nats().await;
    let publish = async |lane: &str, number: usize| {
        let body = json!({"id": format!("{lane}-{number}"), "text": "Rain fell."}).to_string();
        let subject = format!("jobs.v1.default.{lane}.summarize.public");
        context.publish(subject, body.into()).await.unwrap().await
    };
    for number in 0..90 {
        publish("normal", number).await.unwrap();
    }
    let error = publish("normal", 90).await.unwrap_err();
    assert!(format!("{error:?}").contains("per subject"), "{error:?}");
    // The gateway says which limit it is.
    let (status, problem) = submit(&product, "normal").await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (429, Some("quota_exceeded")),
        "{problem}"
    );
    let (status, job) = submit(&product, "high").await;
    assert_eq!(status, 202, "{job}");
    // A tenant's other lanes have room.
    publish("bulk", 0).await.unwrap();
}

#[tokio::test]
async fn a_lower_limit_per_tenant_deletes_no_queued_jobs() {
    let product = with_waiting_jobs(&["queue.tenant_share=1"]).await;
    for number in 0..10 {
        let body = json!({"id": format!("job-{number}"), "text": "Rain fell."}).to_string();
        product
            .publish("jobs.v1.default.normal.summarize.public", body)
            .await;
    }
    let settings = ["queue.max_jobs=10", "queue.tenant_share=0.5"].map(str::to_owned);
    let limit = async || {
        let jobs = product.nats().await.get_stream("JOBS").await.unwrap();
        let config = &jobs.cached_info().config;
        (config.max_messages, config.max_messages_per_subject)
    };
    let worker = product.command("worker", "lower", &settings);
    eventually(PATIENCE, "the stream is changed", async || {
        (limit().await.0 == 10).then_some(())
    })
    .await;
    assert_eq!(limit().await.1, -1);
    // The jobs run. The limit is set once there are few enough.
    for number in 0..10 {
        let id = format!("job-{number}");
        eventually(PATIENCE, "the job has a result", async || {
            product.result(&id_of(&id)).await
        })
        .await;
    }
    drop(worker);
    let _worker = product.command("worker", "lower-again", &settings);
    eventually(PATIENCE, "the limit is set", async || {
        (limit().await.1 == 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn polls_of_a_waiting_job_read_its_text_once() {
    let product = with_waiting_jobs(&[]).await;
    let (_, job) = submit(&product, "normal").await;
    let id = job["id"].as_str().unwrap();
    let (_, sequence) = id.split_once('.').unwrap();
    let client = async_nats::connect(&product.nats).await.unwrap();
    let mut reads = client.subscribe("$JS.API.STREAM.MSG.GET.JOBS").await.unwrap();
    client.flush().await.unwrap();
    for _ in 0..20 {
        let (_, view) = product.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!(view["status"], "queued");
        assert_eq!(view["position"], 0);
    }
    client.flush().await.unwrap();
    reads.unsubscribe().await.unwrap();
    let wanted = format!(r#"{{"seq":{sequence}}}"#);
    let reads: Vec<_> = reads.map(|read| read.payload).collect().await;
    let of_job = reads
        .iter()
        .filter(|read| read.as_ref() == wanted.as_bytes())
        .count();
    assert_eq!(of_job, 1, "{reads:?}");
    // A cancelled job is no longer shown as queued.
    let request = product.http.delete(format!("{}/v1/jobs/{id}", product.api));
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(product.finished(id).await.status, Status::Cancelled);
}
