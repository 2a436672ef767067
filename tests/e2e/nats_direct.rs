//! Publishing to NATS directly, like a client in any language.

use std::time::Duration;

use precis_schemas::{ErrorCode, JobId, JobResult, Outcome};
use precis_tests::{Product, eventually, id_of, samples};
use serde_json::json;

use crate::shared;

const NORMAL: &str = "jobs.v1.default.normal.summarize.acme";

async fn result_of(product: &Product, id: &JobId) -> JobResult {
    eventually(Duration::from_secs(60), "a result exists", async || {
        product.result(id).await
    })
    .await
}

#[tokio::test]
async fn a_published_job_has_a_result_on_its_subject() {
    let product = shared().await;
    let id = JobId::generate();
    let text = samples::get("tramway-fare-free").article;
    let body = json!({"id": id, "text": text}).to_string();
    product.publish("jobs.v1.default.high.summarize.acme", body).await;
    let result = result_of(product, &id).await;
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
async fn malformed_messages_are_answered_if_possible_and_dead_lettered() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": 7}).to_string();
    product.publish(NORMAL, body).await;
    let result = result_of(product, &id).await;
    assert_eq!(result.outcome, Outcome::Failed);
    assert_eq!(result.error.unwrap().code, ErrorCode::InvalidRequest);
    let id = JobId::generate();
    let body = json!({"id": id, "text": "Rain fell.", "channel": "fax"}).to_string();
    product.publish(NORMAL, body).await;
    let error = result_of(product, &id).await.error.unwrap();
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    for part in ["channel is \"fax\"", "`direct`"] {
        assert!(error.message.contains(part), "{error:?}");
    }
    // A message without an id cannot be answered, so it is dead-lettered with the reason.
    let nonsense = format!("\u{1}nonsense {id}");
    let before = product.last_dead_letter().await;
    let sequence = product.publish(NORMAL, nonsense.clone()).await;
    let letter = product
        .dead_letter(before, |letter| letter.body.as_ref() == Some(&nonsense))
        .await;
    assert_eq!(letter.reason.code, ErrorCode::InvalidRequest);
    assert_eq!((letter.job_sequence, letter.subject.as_str()), (sequence, NORMAL));
    product.left_the_queue(sequence).await;
}

#[tokio::test]
async fn rest_says_why_a_published_job_is_malformed() {
    let product = shared().await;
    for (fields, reason) in [
        (r#""text":"Rain \ud800 fell.""#, "hex escape"),
        (r#""text":"Rain.","params":[4]"#, "invalid type: array"),
        (r#""text":"Rain.","text":"Snow.""#, "duplicate field `text`"),
    ] {
        let id = JobId::generate();
        let body = format!(r#"{{{fields},"id":"{id}"}}"#);
        let sequence = product.publish(NORMAL, body).await;
        result_of(product, &id).await;
        let (status, view) = product.get(&format!("/v1/jobs/{id}.{sequence}")).await;
        assert_eq!((status, view["status"].as_str()), (200, Some("failed")), "{view}");
        assert_eq!(view["error"]["code"], "invalid_request");
        let message = view["error"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn a_large_unreadable_message_is_dead_lettered() {
    let product = shared().await;
    // In hexadecimal it exceeds the server's maximum payload.
    let noise: Vec<u8> = (0..3_000_000_u32).map(|n| 0x80 | n.to_le_bytes()[0]).collect();
    let before = product.last_dead_letter().await;
    let sequence = product.publish(NORMAL, noise).await;
    let letter = product
        .dead_letter(before, |letter| {
            letter.job_sequence == sequence && letter.subject == NORMAL
        })
        .await;
    assert_eq!(letter.reason.code, ErrorCode::InvalidRequest);
    product.left_the_queue(sequence).await;
}

#[tokio::test]
async fn an_overlong_reference_is_answered() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": "a", "reference": "r".repeat(3_900_000)}).to_string();
    let sequence = product.publish(NORMAL, body).await;
    let result = result_of(product, &id).await;
    assert_eq!(result.outcome, Outcome::Failed);
    let code = result.error.unwrap().code;
    assert!(
        matches!(code, ErrorCode::TextTooLong | ErrorCode::InvalidRequest),
        "{code}"
    );
    product.left_the_queue(sequence).await;
    assert_eq!(product.stored_rows(&id).await.len(), 1);
}

#[tokio::test]
async fn a_job_past_its_deadline_is_answered_expired_without_the_model() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": "Rain fell.", "deadline": "2020-01-01T00:00:00Z"});
    product.publish(NORMAL, body.to_string()).await;
    let result = result_of(product, &id).await;
    assert_eq!(result.outcome, Outcome::Expired);
    assert_eq!(result.error.unwrap().code, ErrorCode::DeadlineExceeded);
    assert_eq!(result.sizes.text_tokens, 0);
    assert_eq!(product.rows_of(&id).await[0]["outcome"], "expired");
}

#[tokio::test]
async fn a_job_for_an_unserved_model_fails_after_the_grace_period() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": "Rain fell."}).to_string();
    product
        .publish("jobs.v1.nobody-serves-this.normal.summarize.acme", body)
        .await;
    let result = result_of(product, &id).await;
    assert_eq!(result.outcome, Outcome::Failed);
    assert_eq!(result.error.unwrap().code, ErrorCode::UnknownModel);
    assert_eq!(product.rows_of(&id).await.len(), 1);
}

#[tokio::test]
async fn the_same_id_published_twice_is_one_job() {
    let product = shared().await;
    let id = JobId::generate();
    let body = json!({"id": id, "text": samples::get("tramway-fare-free").article}).to_string();
    product.publish(NORMAL, body.clone()).await;
    let first = result_of(product, &id).await;
    let again = product.publish(NORMAL, body).await;
    product.left_the_queue(again).await;
    assert_eq!(result_of(product, &id).await.finished_at, first.finished_at);
    assert_eq!(product.stored_rows(&id).await.len(), 1);
}

#[tokio::test]
async fn an_existing_result_wins_over_the_workers() {
    let product = shared().await;
    let text = samples::get("tramway-fare-free").article;
    let real = product.summarize(&json!({"text": text})).await;
    let real = product.result(&id_of(&real.id)).await.unwrap();
    // As if a worker died between storing the result and acknowledging the job.
    let id = JobId::generate();
    let mut earlier = serde_json::to_value(&real).unwrap();
    earlier["id"] = json!(id);
    earlier["job_sequence"] = json!(real.job_sequence + 1);
    earlier["summary"] = json!("Written by hand.");
    let body = earlier.to_string();
    product.publish(&format!("results.v1.{id}"), body).await;
    let body = json!({"id": id, "text": text}).to_string();
    let sequence = product.publish(NORMAL, body).await;
    product.left_the_queue(sequence).await;
    let result = result_of(product, &id).await;
    assert_eq!(result.summary.as_deref(), Some("Written by hand."));
    let rows = product.stored_rows(&id).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["summary"], "Written by hand.");
}

#[tokio::test]
async fn the_python_example_of_the_guide_prints_a_summary() {
    let product = shared().await;
    let guide = include_str!("../../docs/guide/nats.md");
    let (_, example) = guide.split_once("```python\n").expect("the guide has an example");
    let (example, _) = example.split_once("```").expect("the example ends");
    let script = product.dir().join("example.py");
    std::fs::write(&script, example).unwrap();
    let nats = product.nats.clone();
    let text = samples::get("tramway-fare-free").article;
    let run = tokio::task::spawn_blocking(move || {
        let mut python = std::process::Command::new(crate::contracts::python());
        python.arg(script).env("NATS_URL", nats);
        python
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut python = python.spawn().unwrap();
        std::io::Write::write_all(&mut python.stdin.take().unwrap(), text.as_bytes()).unwrap();
        python.wait_with_output().unwrap()
    });
    let output = run.await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.trim().len() > 10, "{printed}");
}
