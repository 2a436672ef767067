//! Webhooks while others can't be delivered, and after their consumer or stream was deleted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use precis_schemas::{ErrorCode, JobId};
use precis_tests::{eventually, id_of};
use serde_json::json;

use super::receiver::Receiver;
use super::{rain, unguarded, unguarded_with};

#[tokio::test]
async fn a_webhook_whose_result_was_dropped_is_a_dead_letter_at_once() {
    let product = unguarded().await;
    let receiver = Receiver::start().await;
    let dead = product.last_dead_letter().await;
    let (status, job) = product
        .post("/v1/summaries", &rain(&receiver.url("/waking")))
        .await;
    assert_eq!(status, 202, "{job}");
    receiver.called("/waking", 1).await;
    let results = product.nats().await.get_stream("RESULTS").await.unwrap();
    results.purge().await.unwrap();
    let letter = product
        .dead_letter(dead, |letter| letter.subject.starts_with("webhooks."))
        .await;
    assert_eq!(letter.reason.code, ErrorCode::JobGone, "{letter:?}");
}

#[tokio::test]
async fn a_tenant_with_too_many_undelivered_webhooks_harms_no_other() {
    // Three webhooks of a tenant may wait.
    let product = unguarded_with(vec!["queue.max_jobs=30".into()]).await;
    let receiver = Receiver::start().await;
    let dead = product.last_dead_letter().await;
    let submit = async |tenant: &str, path: &str| {
        let id = JobId::generate();
        let callback = json!({"url": receiver.url(path)});
        let body = json!({"id": id, "text": "Rain fell.", "callback": callback}).to_string();
        let subject = format!("jobs.v1.default.normal.summarize.{tenant}");
        product.publish(&subject, body).await;
        id
    };
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(submit("many", "/waking").await);
    }
    jobs.push(submit("few", "/fine").await);
    receiver.called("/fine", 1).await;
    let letter = product
        .dead_letter(dead, |letter| letter.subject == "webhooks.v2.many.job")
        .await;
    assert_eq!(letter.reason.code, ErrorCode::CallbackFailed);
    assert!(letter.reason.message.contains("too many webhooks"), "{letter:?}");
    let metrics = product.http.get(format!("{}/metrics", product.worker_admin));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("precis_queue_webhooks_dead_lettered_total "));
    assert!(counted.unwrap().parse::<f64>().unwrap() >= 1.0, "{metrics}");
    // Every job has ended, and those within the limit are delivered once the receiver is there.
    for id in &jobs {
        assert_eq!(product.stored_rows(id).await.len(), 1, "{id}");
    }
    receiver.is_awake.store(true, Ordering::Relaxed);
    eventually(Duration::from_secs(60), "the rest is delivered", async || {
        let mut webhooks = product.nats().await.get_stream("WEBHOOKS").await.unwrap();
        (webhooks.info().await.unwrap().state.messages == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deleted_consumers_are_set_up_again() {
    let product = unguarded().await;
    let receiver = Receiver::start().await;
    let context = product.nats().await;
    let delete = async |stream: &str, consumer: &str| {
        let stream = context.get_stream(stream).await.unwrap();
        stream.delete_consumer(consumer).await.unwrap();
    };
    delete("WEBHOOKS", "gateway-webhooks").await;
    delete("RESULTS", "monitor-clickhouse").await;
    let (status, job) = product.post("/v1/summaries", &rain(&receiver.url("/fine"))).await;
    assert_eq!(status, 202, "{job}");
    receiver.called("/fine", 1).await;
    assert_eq!(
        product.rows_of(&id_of(job["id"].as_str().unwrap())).await.len(),
        1
    );
    // The server may lose a stream too. A delivered webhook needs it, and its consumer.
    context.delete_stream("WEBHOOKS").await.unwrap();
    eventually(Duration::from_secs(60), "the stream is back", async || {
        context.get_stream("WEBHOOKS").await.ok()
    })
    .await;
    let (status, job) = product.post("/v1/summaries", &rain(&receiver.url("/fine"))).await;
    assert_eq!(status, 202, "{job}");
    receiver.called("/fine", 2).await;
}
