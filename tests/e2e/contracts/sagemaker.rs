//! SageMaker's runtime: captured requests are replayed, and `boto3` itself calls the product.
//!
//! All captured requests are the same call, answered under different conditions. Reproduced here: success, a missing
//! endpoint, a model error. The gateway's tests cover a full queue and its `ServiceUnavailable`. `plain_422` cannot
//! occur: every error has its type in a header.

use std::process::Command;
use std::time::Duration;

use precis_tests::eventually;
use precis_tests::product::free_port;
use serde_json::Value;

use super::{bytes_of, captured, folder, python};
use crate::shared;

/// Sends a captured request to `base`. Returns status, headers and body.
async fn send(base: &str, request: &Value, body: &Value) -> (u16, reqwest::header::HeaderMap, Value) {
    let product = shared().await;
    let url = format!("{base}{}", request["path"].as_str().unwrap());
    let mut sent = product.http.post(url).body(bytes_of(body));
    for (header, value) in request["headers"].as_object().unwrap() {
        if !matches!(
            header.as_str(),
            "Host" | "Content-Length" | "amz-sdk-invocation-id"
        ) {
            sent = sent.header(header, value.as_str().unwrap());
        }
    }
    let response = sent.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    (
        status,
        headers,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// Starts a second gateway of the shared product with more settings. Returns it with its address.
async fn gateway(name: &str, settings: &[&str]) -> (precis_tests::process::Process, String) {
    let product = shared().await;
    let port = free_port();
    let mut all = vec![format!("api.listen=127.0.0.1:{port}")];
    all.extend(settings.iter().map(|text| (*text).to_owned()));
    let process = product.command("api", name, &all);
    let base = format!("http://127.0.0.1:{port}");
    eventually(Duration::from_secs(60), "the gateway is ready", async || {
        let ready = product.http.get(format!("{base}/readyz")).send().await.ok()?;
        ready.status().is_success().then_some(())
    })
    .await;
    (process, base)
}

#[tokio::test]
async fn captured_requests_are_answered_like_sagemaker() {
    let product = shared().await;
    let (_process, strict) = gateway("api-endpoints", &["api.endpoints=other,another"]).await;
    let exchanges = captured("sagemaker/boto3_invoke_endpoint.json");
    for exchange in exchanges.as_array().unwrap() {
        let name = exchange["name"].as_str().unwrap();
        let (request, expected) = (&exchange["request"], &exchange["reply_sent"]);
        let good = &request["body_json"];
        let same_headers = |headers: &reqwest::header::HeaderMap| {
            for (header, value) in expected["headers"].as_object().unwrap() {
                assert_eq!(headers[header.to_lowercase()], value.as_str().unwrap(), "{name}");
            }
        };
        let expected_body: Value = serde_json::from_str(expected["body"].as_str().unwrap()).unwrap();
        match name {
            "validation_400" => {
                let (status, headers, body) = send(&strict, request, good).await;
                assert_eq!((status, &body), (400, &expected_body));
                same_headers(&headers);
            }
            "model_error_424" => {
                let blank = serde_json::json!({"articles": [" "]});
                let (status, headers, body) = send(&product.api, request, &blank).await;
                assert_eq!(status, 424);
                same_headers(&headers);
                let keys = |body: &Value| body.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                assert_eq!(keys(&body), keys(&expected_body), "{body}");
                assert_eq!(body["OriginalStatusCode"], 422);
            }
            _ => {
                let (status, headers, body) = send(&product.api, request, good).await;
                assert_eq!(status, 200, "{name}: {body}");
                assert_eq!(body.as_array().map(Vec::len), Some(1), "{name}: {body}");
                if expected["status"] == 200 {
                    same_headers(&headers);
                }
            }
        }
    }
}

#[tokio::test]
async fn boto3_calls_the_product() {
    let product = shared().await;
    let (_process, hasty) = gateway("api-hasty", &["api.sync_wait_seconds=0"]).await;
    let arguments = [product.api.clone(), hasty];
    let called = tokio::task::spawn_blocking(move || {
        Command::new(python())
            .arg(folder().join("boto3_client.py"))
            .args(arguments)
            .output()
            .unwrap()
    });
    let output = called.await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    let expected = captured("sagemaker/boto3_invoke_endpoint.json");
    let summaries = seen["plain"]["body"].as_array().unwrap();
    assert!(
        summaries.len() == 2 && summaries.iter().all(Value::is_string),
        "{seen}"
    );
    assert_eq!(
        seen["plain"]["content_type"],
        expected[0]["client_result"]["ContentType"]
    );
    assert_eq!(
        seen["plain"]["variant"],
        expected[0]["client_result"]["InvokedProductionVariant"]
    );
    assert_eq!(seen["full"]["body"], seen["plain"]["body"]);
    assert_eq!(seen["full"]["variant"], "v1");
    assert_eq!(seen["full"]["attributes"], "trace=abc");

    let parts = seen["stream"]["parts"].as_array().unwrap();
    let whole: String = parts.iter().filter_map(Value::as_str).collect();
    assert!(parts.len() > 2, "{seen}");
    assert_eq!(
        serde_json::from_str::<Value>(&whole).unwrap(),
        seen["plain"]["body"]
    );
    let streamed = captured("sagemaker/boto3_invoke_endpoint_with_response_stream.json");
    assert_eq!(
        streamed["reply_headers"]["Content-Type"],
        "application/vnd.amazon.eventstream"
    );
    assert_eq!(seen["stream"]["content_type"], "application/json");

    let errors = &seen["errors"];
    for (name, original) in [("blank", 422), ("not_json", 400), ("late", 504)] {
        let error = &errors[name];
        assert_eq!(error["exception"], "ModelError", "{error}");
        assert_eq!(error["OriginalStatusCode"], original, "{error}");
    }
    assert_eq!(
        (
            errors["blank"]["status"].as_u64(),
            errors["blank"]["retries"].as_u64()
        ),
        (Some(424), Some(0))
    );
    // The client sent it three times, and all attempts waited for the same jobs.
    assert_eq!(
        (
            errors["late"]["status"].as_u64(),
            errors["late"]["retries"].as_u64()
        ),
        (Some(504), Some(2))
    );
    let problem: Value = serde_json::from_str(errors["late"]["OriginalMessage"].as_str().unwrap()).unwrap();
    let ids = problem["job_ids"].as_array().unwrap();
    assert_eq!(ids.len(), 2);
    for id in ids {
        let done = product.finished(id.as_str().unwrap()).await;
        assert!(done.summary.is_some());
    }
}
