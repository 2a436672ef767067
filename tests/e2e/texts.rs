//! Texts are stored apart from results.

use std::time::Duration;

use precis_schemas::JobId;
use precis_schemas::topology::TEXTS;
use precis_tests::{Product, eventually, id_of, samples};
use serde_json::{Value, json};

use crate::jobs::with_waiting_jobs;
use crate::shared;

/// Publishes a result as a worker does.
async fn publish(product: &Product, id: &str, fields: Value) -> JobId {
    let json = include_str!("../../schemas/wire/v1/result.succeeded.json");
    let mut record: Value = serde_json::from_str(json).unwrap();
    record["id"] = id.into();
    record.as_object_mut().unwrap().remove("text");
    record
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    product
        .publish(&format!("results.v1.{id}"), record.to_string())
        .await;
    id.parse().unwrap()
}

async fn row(product: &Product, id: &JobId) -> Value {
    let rows = product.stored_rows(id).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

#[tokio::test]
async fn a_result_is_small_and_its_row_has_the_text() {
    let product = shared().await;
    let sample = samples::get("school-start-later");
    let done = product.summarize(&json!({"text": sample.article})).await;
    let id = id_of(&done.id);
    let record = product.result(&id).await.unwrap();
    assert!(record.text.is_empty() && record.text_in_stream);
    let row = row(product, &id).await;
    assert_eq!(row["text"], sample.article);
    assert!(row["coverage"].is_number(), "{row}");
}

#[tokio::test]
async fn a_short_text_stays_in_its_record() {
    let product = shared().await;
    let done = product
        .summarize(&json!({"text": "Rain fell on the coast."}))
        .await;
    let id = id_of(&done.id);
    let record = product.result(&id).await.unwrap();
    assert_eq!(
        (record.text.as_str(), record.text_in_stream),
        ("Rain fell on the coast.", false)
    );
    assert_eq!(row(product, &id).await["text"], "Rain fell on the coast.");
}

#[tokio::test]
async fn a_record_with_a_long_text_inside_is_stored_as_before() {
    let product = shared().await;
    let text = samples::get("school-start-later").article;
    let id = publish(product, "text-inside", json!({"text": text})).await;
    assert_eq!(row(product, &id).await["text"], text);
}

#[tokio::test]
async fn a_prediction_whose_text_was_dropped_is_stored_without_it() {
    let product = shared().await;
    let id = publish(product, "text-dropped", json!({"text_in_stream": true})).await;
    let row = row(product, &id).await;
    assert_eq!((&row["text"], &row["text_chars"]), (&json!(""), &json!(48)));
    assert!(row["coverage"].is_null(), "{row}");
    let page = product.http.get(format!("{}/metrics", product.monitor));
    let page = page.send().await.unwrap().text().await.unwrap();
    let metric = "precis_monitor_texts_missing_total{sink=\"clickhouse\"} 1";
    assert!(page.contains(metric), "{page}");
}

#[tokio::test]
async fn the_text_of_a_cancelled_job_is_stored_and_retention_is_exported() {
    let product = with_waiting_jobs(&[]).await;
    let text = samples::get("school-start-later").article;
    let job = product.submit(&json!({"text": text})).await;
    let url = format!("{}/v1/jobs/{}", product.api, job.id);
    let answer = product.http.delete(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let id = id_of(&job.id);
    assert!(product.result(&id).await.unwrap().text_in_stream);
    assert_eq!(row(&product, &id).await["text"], text);
    let mut texts = product.nats().await.get_stream(TEXTS).await.unwrap();
    assert_eq!(texts.info().await.unwrap().state.messages, 1);
    eventually(Duration::from_secs(60), "the age is exported", async || {
        let page = product.http.get(format!("{}/metrics", product.monitor));
        let page = page.send().await.ok()?.text().await.ok()?;
        let age = page
            .lines()
            .find(|line| line.starts_with("precis_monitor_oldest_message_seconds{stream=\"TEXTS\"}"))?;
        age.rsplit(' ')
            .next()?
            .parse::<f64>()
            .ok()
            .filter(|age| *age > 0.0)
    })
    .await;
}
