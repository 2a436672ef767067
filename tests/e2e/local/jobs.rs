//! The jobs API on the in-memory queue.

use precis_schemas::rest::{JobView, ScoreReport, Status, SubmittedBatch};
use precis_tests::{Product, eventually};
use serde_json::{Value, json};

use super::{MINUTE, article, gateway};

/// A request that keeps the model busy for seconds.
fn long_request() -> Value {
    json!({"text": article().repeat(20), "params": {
        "num_beams": 64, "min_new_tokens": 500, "max_new_tokens": 500, "first_sentence": false,
    }})
}

/// Submits a job and waits until it is running.
async fn running(product: &Product, body: &Value) -> String {
    let id = product.submit(body).await.id;
    eventually(MINUTE, "the job runs", async || {
        let (_, view) = product.get(&format!("/v1/jobs/{id}")).await;
        (view["status"] == "running").then_some(())
    })
    .await;
    id
}

async fn delete(product: &Product, id: &str) -> (u16, Value) {
    let request = product.http.delete(format!("{}/v1/jobs/{id}", product.api));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn wait(product: &Product, id: &str) -> JobView {
    let (status, view) = product.get(&format!("/v1/jobs/{id}?wait=60")).await;
    assert_eq!(status, 200, "{view}");
    serde_json::from_value(view).unwrap()
}

#[tokio::test]
async fn jobs_are_submitted_awaited_and_found() {
    let (product, _process) = gateway(&["local.result_ttl_seconds=90"]).await;
    let done = product
        .summarize(&json!({"text": article(), "metadata": {"a": "b"}}))
        .await;
    assert!(done.summary.is_some_and(|summary| !summary.is_empty()));
    assert_eq!(done.model.unwrap().served_as.as_str(), "default");
    let again = wait(&product, &done.id).await;
    assert_eq!(again.metadata["a"], "b");
    let (status, problem) = delete(&product, &done.id).await;
    assert_eq!((status, problem["job_status"].as_str()), (409, Some("succeeded")));

    let (status, several) = product
        .post("/v1/summaries", &json!({"texts": [article(), "Rain fell."]}))
        .await;
    assert_eq!(status, 202, "{several}");
    let several: SubmittedBatch = serde_json::from_value(several).unwrap();
    for job in several.jobs {
        let view = wait(&product, &job.id).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(view.batch.map(|place| place.id), Some(several.id.clone()));
    }

    let (_, models) = product.get("/v1/models").await;
    assert_eq!(models["models"][0]["workers"], 1, "{models}");
    let (status, unknown) = product
        .post("/v1/summaries", &json!({"text": "x", "model": "other"}))
        .await;
    assert_eq!((status, unknown["code"].as_str()), (422, Some("unknown_model")));
    for (id, code) in [
        ("01a208c127397198ac12616734115f3e.99", "job_not_found"),
        ("01a208c127397198ac12616734115f3e.1", "job_gone"),
    ] {
        let (_, problem) = product.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!(problem["code"], code, "{id}: {problem}");
        if code == "job_gone" {
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("results are kept for 90 seconds"), "{problem}");
        }
    }
}

#[tokio::test]
async fn pairs_are_scored() {
    let (product, _process) = gateway(&[]).await;
    let pairs = json!([
        {"summary": "the river rises", "reference": "the river rises"},
        {"text": article(), "reference": "Trams are free."},
    ]);
    let (status, report) = product.post("/v1/scores", &json!({"pairs": pairs})).await;
    assert_eq!(status, 200, "{report}");
    let report: ScoreReport = serde_json::from_value(report).unwrap();
    assert_eq!(report.aggregate.as_ref().map(|all| all.count), Some(2));
    let first = report.pairs[0].scores.unwrap();
    assert!((first.rouge1.fmeasure - 1.0).abs() < 1e-12, "{first:?}");
    let (status, again) = product.get(&report.links.this).await;
    assert_eq!(status, 200, "{again}");
    assert_eq!(serde_json::from_value::<ScoreReport>(again).unwrap(), report);
}

#[tokio::test]
async fn events_stream_the_text_and_then_the_result() {
    let (product, _process) = gateway(&[]).await;
    let body = json!({"text": article(), "params": {
        "num_beams": 8, "min_new_tokens": 400, "max_new_tokens": 400, "first_sentence": false,
    }});
    let job = product.submit(&body).await;
    let events = |last: Option<&str>| {
        let url = format!("{}{}/events", product.api, job.links.this);
        let request = product.http.get(url);
        match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        }
    };
    let stream = events(None).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let all = stream.text().await.unwrap();
    assert!(
        all.contains("event: text") && all.contains("\"status\":\"running\""),
        "{all}"
    );
    let end = all.rfind("event: result").expect("the stream has a last event");
    assert!(all[end..].contains("\"status\":\"succeeded\""), "{all}");
    let rest = events(Some("1.1")).send().await.unwrap().text().await.unwrap();
    assert!(
        rest.contains("event: result") && !rest.contains("event: state"),
        "{rest}"
    );
    assert_eq!(events(Some("end")).send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repeated_request_the_same_job() {
    let (product, _process) = gateway(&[]).await;
    let post = async |body: &Value| {
        let request = product.http.post(format!("{}/v1/summaries", product.api));
        let response = request.header("idempotency-key", "k-1").json(body).send();
        let response = response.await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let body = json!({"text": article()});
    let answers = futures::future::join_all((0..20).map(|_| post(&body))).await;
    let id = answers[0].1["id"].clone();
    for (status, answer) in &answers {
        assert!(*status == 202 || *status == 200, "{answer}");
        assert_eq!(answer["id"], id);
    }
    let (status, other) = post(&json!({"text": "Another."})).await;
    assert_eq!(
        (status, other["code"].as_str()),
        (422, Some("idempotency_key_reused"))
    );
}

#[tokio::test]
async fn waiting_and_running_jobs_can_be_cancelled_and_expire() {
    let (product, _process) = gateway(&["worker.max_batch=1", "worker.threads=1"]).await;
    let first = running(&product, &long_request()).await;
    let waits = product.submit(&json!({"text": article()})).await;
    assert_eq!(waits.status, Status::Queued);
    // At most 1: the cached queue depth may still count the first job.
    assert!(matches!(waits.position, Some(0 | 1)), "{:?}", waits.position);
    let stale = product
        .submit(&json!({"text": article(), "ttl_seconds": 1, "priority": "bulk"}))
        .await;
    let (status, cancelled) = delete(&product, &waits.id).await;
    assert_eq!((status, cancelled["status"].as_str()), (200, Some("cancelled")));
    // The model is busy, so the deadline passes in the queue.
    assert_eq!(wait(&product, &stale.id).await.status, Status::Expired);

    let waiting = product.submit(&json!({"text": article()})).await;
    let (status, cancelled) = delete(&product, &first).await;
    assert_eq!((status, cancelled["status"].as_str()), (200, Some("cancelled")));
    assert_eq!(delete(&product, &first).await.0, 200);
    // The queue has room again.
    assert_eq!(wait(&product, &waiting.id).await.status, Status::Succeeded);
    assert_eq!(wait(&product, &first).await.status, Status::Cancelled);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_rolls_back_groups() {
    let (product, _process) = gateway(&["local.max_jobs=2", "worker.max_batch=1", "worker.threads=1"]).await;
    let first = running(&product, &long_request()).await;
    let body = json!({"texts": ["Rain fell.", "Snow fell.", "Hail fell."]});
    let (status, problem) = product.post("/v1/summaries", &body).await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("queue_full")));
    // The jobs queued before the rejection are withdrawn, so there is room for two others.
    for text in ["Rain fell.", "Snow fell."] {
        product.submit(&json!({"text": text})).await;
    }
    let request = product.http.post(format!("{}/v1/summaries", product.api));
    let refused = request.json(&json!({"text": "Hail fell."})).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let (status, _) = delete(&product, &first).await;
    assert_eq!(status, 200);
}
