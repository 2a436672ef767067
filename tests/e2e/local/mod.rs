//! The gateway with the model in its process: no NATS, no worker, no ClickHouse.

mod jobs;
mod monitor;
mod sagemaker;

use std::time::Duration;

use precis_tests::process::Process;
use precis_tests::product::free_port;
use precis_tests::{Options, Product, eventually, samples};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::PROGRAM;

const MINUTE: Duration = Duration::from_secs(60);

fn article() -> String {
    samples::get("tramway-fare-free").article
}

/// A product that consists of one gateway with the model in its process.
async fn gateway(settings: &[&str]) -> (Product, Process) {
    let mut product = Product::new(PROGRAM, Options::default());
    let port = free_port();
    product.api = format!("http://127.0.0.1:{port}");
    let mut all = vec![
        format!("api.listen=127.0.0.1:{port}"),
        "api.engine=local".to_owned(),
    ];
    all.extend(settings.iter().map(|text| (*text).to_owned()));
    let process = product.command("api", "local", &all);
    is_ready(&product).await;
    (product, process)
}

async fn is_ready(product: &Product) {
    eventually(MINUTE, "the gateway is ready", async || {
        let request = product.http.get(format!("{}/readyz", product.api));
        let ready = request.send().await.ok()?;
        ready.status().is_success().then_some(())
    })
    .await;
}

async fn metrics(product: &Product) -> String {
    let request = product.http.get(format!("{}/metrics", product.api));
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn synchronous_routes_need_no_queue() {
    let (product, _process) = gateway(&[]).await;
    let article = article();
    let table = json!({"columns": ["article"], "data": [[article]]});
    for (path, body) in [
        ("/article/summarize", json!({"article": article})),
        (
            "/article/summarize_batch",
            json!({"articles": {"articles": [article, article]}, "config": {"num_beans": 2}}),
        ),
        (
            "/model/score",
            json!({"articles": [article], "targets": ["Trams are free."]}),
        ),
        ("/online-predict", json!({"article": article, "num_beans": 2})),
        ("/batch-predict", json!({"articles": [article], "num_beans": 2})),
        (
            "/score",
            json!({"articles": [article], "targets": ["Trams are free."]}),
        ),
        ("/invocations", json!({"articles": [article]})),
        ("/invocations", json!({"dataframe_split": table})),
        ("/endpoints/any/invocations", json!({"articles": [article]})),
        (
            "/endpoints/any/invocations-response-stream",
            json!({"articles": [article]}),
        ),
    ] {
        let (status, answer) = product.post(path, &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    for path in [
        "/",
        "/ping",
        "/health",
        "/version",
        "/healthz",
        "/v1/analytics",
        "/openapi.json",
        "/docs",
        "/errors/needs_queue",
    ] {
        let (status, answer) = product.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    // Metrics cover counts per channel, latencies and scores.
    eventually(MINUTE, "everything is measured", async || {
        let metrics = metrics(&product).await;
        let lines = [
            "precis_api_local_summaries_total{channel=\"lambda\"} 3",
            "precis_api_local_summaries_total{channel=\"local\"} 2",
            "precis_api_local_stage_seconds_count{stage=\"decode\"} 11",
            "precis_api_local_rouge_ratio_count{measure=\"rouge1\"} 2",
            "precis_api_local_bleu_ratio_count 2",
            "precis_worker_jobs_total{outcome=\"succeeded\",code=\"\"} 11",
        ];
        lines.iter().all(|line| metrics.contains(line)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn features_that_need_a_queue_are_refused() {
    let (product, _process) = gateway(&[]).await;
    let done = product.summarize(&json!({"text": article()})).await;
    let path = format!("/v1/jobs/{}/reference", done.id);
    let (status, problem) = product
        .post(&path, &json!({"reference": "Trams are free."}))
        .await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (501, Some("needs_queue")),
        "{problem}"
    );
    let (status, problem) = product.get("/v1/analytics/slowest").await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (503, Some("analytics_unavailable")),
        "{problem}"
    );
}

/// A container is stopped with SIGTERM: running requests are answered.
#[tokio::test]
async fn running_requests_are_answered_during_shutdown() {
    let (product, mut process) = gateway(&["worker.threads=1"]).await;
    let texts: Vec<String> = (0..12).map(|number| format!("{number} {}", article())).collect();
    let body = json!({"articles": texts, "num_beans": 8, "temperature": 1.0});
    let request = product.http.post(format!("{}/invocations", product.api));
    let answer = tokio::spawn(request.json(&body).send());
    // Its jobs are counted once they are accepted.
    eventually(MINUTE, "the jobs are accepted", async || {
        let metrics = metrics(&product).await;
        let counted = metrics
            .lines()
            .find(|line| line.starts_with("precis_api_jobs_submitted_total{channel=\"sagemaker\""))?;
        counted.ends_with(" 12").then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    let answer = answer.await.unwrap().expect("an answer");
    assert_eq!(answer.status(), 200);
    let summaries: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(summaries.as_array().map(Vec::len), Some(12));
    assert!(process.ended(Duration::from_secs(20)).await.success());
}

#[tokio::test]
async fn startup_failures_name_the_reason() {
    let product = Product::new(PROGRAM, Options::default());
    for (name, settings, part) in [
        (
            "no-model",
            ["worker.model=/no/such/model", "api.engine=local"],
            "worker.model = /no/such/model",
        ),
        (
            "no-engine",
            ["api.engine=remote", "limits.max_batch_texts=1"],
            "remote",
        ),
        (
            "two-names",
            ["api.engine=local", "worker.serve_as=other"],
            "api.default_model is `default` and worker.serve_as is `other`",
        ),
        (
            "no-url",
            ["api.engine=local", "local.monitor_url=monitor"],
            "local.monitor_url = monitor",
        ),
    ] {
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        let mut process = product.command("api", name, &settings);
        let status = process.ended(MINUTE).await;
        assert!(!status.success(), "{name}");
        assert!(process.output().contains(part), "{name}: {}", process.output());
    }
}
