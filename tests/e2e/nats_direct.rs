//! Publishing to NATS directly, as a client in any language does.

use std::time::Duration;

use precis_schemas::{ErrorCode, JobId, JobResult, Outcome};
use precis_tests::product::eventually;
use precis_tests::{Product, samples};
use serde_json::json;

use crate::shared;

async fn publish(product: &Product, subject: &str, body: impl Into<Vec<u8>>) {
    let context = product.nats().await;
    context
        .publish(subject.to_owned(), body.into().into())
        .await
        .unwrap()
        .await
        .unwrap();
}

async fn result(product: &Product, id: &JobId) -> JobResult {
    eventually(Duration::from_secs(60), "there is a result", async || {
        product.result(id).await
    })
    .await
}

#[tokio::test]
async fn a_published_job_has_a_result_on_its_subject() {
    let product = shared().await;
    let id = JobId::generate();
    let text = samples::get("tramway-fare-free").article;
    publish(
        product,
        "jobs.v1.default.high.summarize.acme",
        json!({"id": id, "text": text}).to_string(),
    )
    .await;
    let result = result(product, &id).await;
    assert_eq!(
        (result.outcome, result.tenant.as_str()),
        (Outcome::Succeeded, "acme")
    );
    assert_eq!(result.lane.as_str(), "high");
    let rows = product.rows_of(&id).await;
    assert_eq!((rows.len(), rows[0]["channel"].as_str()), (1, Some("direct")));
    let (status, view) = product.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!((status, view["status"].as_str()), (200, Some("succeeded")));
}

#[tokio::test]
async fn a_malformed_message_is_answered_where_possible_and_kept() {
    let product = shared().await;
    let id = JobId::generate();
    let subject = "jobs.v1.default.normal.summarize.acme";
    publish(product, subject, json!({"id": id, "text": 7}).to_string()).await;
    let result = result(product, &id).await;
    assert_eq!(result.outcome, Outcome::Failed);
    assert_eq!(result.error.unwrap().code, ErrorCode::InvalidRequest);
    // Without an id nobody can be answered: it is kept as a dead letter, with the reason.
    let nonsense = format!("\u{1}nonsense {id}");
    publish(product, subject, nonsense.clone()).await;
    let stream = product.nats().await.get_stream("DEAD").await.unwrap();
    let letter = eventually(Duration::from_secs(30), "the dead letter is there", async || {
        let message = stream
            .get_last_raw_message_by_subject("dead.v1.summarize")
            .await
            .ok()?;
        let letter: precis_schemas::dead::DeadLetter = serde_json::from_slice(&message.payload).unwrap();
        (letter.body.as_deref() == Some(&nonsense)).then_some(letter)
    })
    .await;
    assert_eq!(letter.reason.code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_job_past_its_deadline_is_answered_expired_without_the_model() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": "Rain fell.", "deadline": "2020-01-01T00:00:00Z"});
    publish(product, "jobs.v1.default.normal.summarize.acme", body.to_string()).await;
    let result = result(product, &id).await;
    assert_eq!(result.outcome, Outcome::Expired);
    assert_eq!(result.error.unwrap().code, ErrorCode::DeadlineExceeded);
    assert_eq!(result.sizes.text_tokens, 0);
    assert_eq!(product.rows_of(&id).await[0]["outcome"], "expired");
}

#[tokio::test]
async fn a_job_for_a_model_that_nobody_serves_is_answered_after_a_grace_time() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": "Rain fell."}).to_string();
    publish(product, "jobs.v1.nobody-serves-this.normal.summarize.acme", body).await;
    let result = result(product, &id).await;
    assert_eq!(result.outcome, Outcome::Failed);
    assert_eq!(result.error.unwrap().code, ErrorCode::UnknownModel);
    assert_eq!(product.rows_of(&id).await.len(), 1);
}

#[tokio::test]
async fn the_same_id_published_twice_is_one_job() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": samples::get("tramway-fare-free").article}).to_string();
    let subject = "jobs.v1.default.normal.summarize.acme";
    let first = {
        publish(product, subject, body.clone()).await;
        result(product, &id).await
    };
    publish(product, subject, body).await;
    let stream = product.nats().await.get_stream("JOBS").await.unwrap();
    eventually(Duration::from_secs(60), "the queue is empty", async || {
        let info = stream.get_info().await.unwrap();
        (info.state.messages == 0).then_some(())
    })
    .await;
    assert_eq!(result(product, &id).await.finished_at, first.finished_at);
    assert_eq!(product.rows_of(&id).await.len(), 1);
}
