//! Submitting over REST.

use futures::future::join_all;
use jiff::Timestamp;
use precis_schemas::rest::Status;
use precis_tests::{id_of, samples};
use serde_json::{Value, json};

use crate::shared;

#[tokio::test]
async fn a_text_is_submitted_polled_and_measured() {
    let product = shared().await;
    let sample = samples::get("harbour-bridge-vote");
    let submitted = product
        .submit(&json!({"text": sample.article, "reference": sample.reference}))
        .await;
    assert!(matches!(submitted.status, Status::Queued | Status::Running));
    let view = product.finished(&submitted.id).await;
    assert_eq!(view.status, Status::Succeeded, "{view:?}");
    let summary = view.summary.unwrap();
    assert!(summary.chars().count() > 10, "{summary}");
    let rows = product.rows_of(&id_of(&submitted.id)).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (row["outcome"].as_str(), row["summary"].as_str()),
        (Some("succeeded"), Some(&*summary))
    );
    assert_eq!(row["summary_chars"], summary.chars().count());
    assert_eq!(row["text_chars"], sample.article.chars().count());
    for score in ["rouge1", "rouge2", "rougeL"] {
        assert!(
            (0.0..=1.0).contains(&row[score].as_f64().unwrap()),
            "{score}: {}",
            row[score]
        );
    }
    assert!(row["end_to_end_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn waiting_answers_with_the_summary_at_the_top_level() {
    let product = shared().await;
    let request = product
        .http
        .post(format!("{}/v1/summaries", product.api))
        .header("prefer", "wait=100");
    let body = json!({"text": samples::get("tramway-fare-free").article});
    let response = request.json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let view: Value = response.json().await.unwrap();
    assert_eq!(view["status"], "succeeded");
    assert!(view["id"].is_string() && view["summary"].is_string(), "{view}");
    // Without a reference there are no scores.
    let rows = product.rows_of(&id_of(view["id"].as_str().unwrap())).await;
    assert_eq!(rows[0]["rouge1"], Value::Null);
}

#[tokio::test]
async fn a_batch_of_mixed_lengths_equals_one_at_a_time() {
    let product = shared().await;
    let samples = samples::all();
    let body = |text: &str| json!({"text": text, "params": {"max_new_tokens": 24}});
    let bodies: Vec<Value> = samples.iter().map(|sample| body(&sample.article)).collect();
    let together = join_all(bodies.iter().map(|body| product.summarize(body))).await;
    let largest = together
        .iter()
        .filter_map(|view| view.sizes.as_ref())
        .map(|sizes| sizes.batch_size)
        .max();
    assert!(largest.unwrap() > 1, "nothing was batched");
    for (body, batched) in bodies.iter().zip(&together) {
        let alone = product.summarize(body).await;
        assert_eq!(alone.summary, batched.summary);
        assert!(alone.summary.is_some());
    }
}

#[tokio::test]
async fn requests_outside_the_contract_are_refused_with_problem_details() {
    let product = shared().await;
    let post = async |body: &str, content_type: &str| {
        let request = product.http.post(format!("{}/v1/summaries", product.api));
        let response = request
            .header("content-type", content_type)
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{body}"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status);
        (status, problem["code"].as_str().unwrap().to_owned())
    };
    let json = "application/json";
    let past = Timestamp::from_second(1_000_000_000).unwrap();
    for (body, content_type, status, code) in [
        ("{", json, 400, "invalid_request"),
        ("[]", json, 400, "invalid_request"),
        (r#"{"text": 7}"#, json, 400, "invalid_request"),
        (r#"{"text": "x", "txt": "y"}"#, json, 400, "invalid_request"),
        (r#"{"text": ""}"#, json, 422, "empty_text"),
        (r#"{"text": "  \n "}"#, json, 422, "empty_text"),
        (
            r#"{"text": "x", "params": {"num_beams": 0}}"#,
            json,
            422,
            "invalid_parameter",
        ),
        (r#"{"text": "x", "model": "gpt-9"}"#, json, 422, "unknown_model"),
        (
            &format!(r#"{{"text": "x", "deadline": "{past}"}}"#),
            json,
            422,
            "invalid_parameter",
        ),
        (
            &format!(r#"{{"text": "{}"}}"#, "x".repeat(300_000)),
            json,
            422,
            "text_too_long",
        ),
        (
            &format!(r#"{{"text": "{}"}}"#, "x".repeat(4_000_000)),
            json,
            413,
            "body_too_large",
        ),
        (r#"{"text": "x"}"#, "text/plain", 415, "unsupported_media_type"),
    ] {
        assert_eq!(
            post(body, content_type).await,
            (status, code.to_owned()),
            "{}",
            &body[..body.len().min(80)]
        );
    }
}

#[tokio::test]
async fn unknown_jobs_and_unknown_routes_have_different_errors() {
    let product = shared().await;
    for (path, status, code) in [
        ("/v1/jobs/never-seen", 404, "job_not_found"),
        ("/v1/jobs/never-seen.999999", 404, "job_not_found"),
        ("/v1/jobs/no%20id", 400, "invalid_request"),
        ("/v2/summaries", 404, "route_not_found"),
        ("/v1/summaries", 405, "method_not_allowed"),
    ] {
        let (found, problem) = product.get(path).await;
        assert_eq!(
            (found, problem["code"].as_str()),
            (status, Some(code)),
            "{path}: {problem}"
        );
    }
    let (status, page) = product.get("/errors/queue_full").await;
    assert!(
        status == 200 && page.as_str().unwrap().starts_with("# `queue_full`"),
        "{page}"
    );
}

#[tokio::test]
async fn every_role_reports_its_health() {
    let product = shared().await;
    for base in [&product.api, &product.monitor] {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let response = product.http.get(format!("{base}{path}")).send().await.unwrap();
            assert_eq!(response.status(), 200, "{base}{path}");
        }
    }
    let metrics = product.get("/metrics").await.1;
    let queued = metrics
        .as_str()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(r#"precis_api_queued_jobs{model="default",lane="normal"} "#));
    assert!(queued.unwrap().parse::<f64>().unwrap() >= 0.0, "{queued:?}");
}
