//! Jobs whose worker stops or dies, or whose deadline passes.

use std::time::Duration;

use futures::future::join_all;
use precis_schemas::rest::{JobView, Status};
use precis_tests::{Options, Product, eventually, id_of, processes, samples};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::PROGRAM;

/// Long enough for a slow machine to finish a batch of [`long_request`].
const DRAIN: &str = "worker.drain_seconds=100";
const TO_DRAIN: Duration = Duration::from_secs(120);

/// A product without workers. Jobs of a dead worker are redelivered after `ack_wait` seconds.
async fn without_workers(ack_wait: u64) -> Product {
    let settings = vec![format!("worker.ack_wait_seconds={ack_wait}")];
    let options = Options {
        workers: 0,
        settings,
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

/// A request that keeps a worker busy for at least some tenths of a second, and usually for seconds.
fn long_request() -> Value {
    request_of(60)
}

/// A request for this many tokens, with the maximum number of beams.
fn request_of(tokens: u32) -> Value {
    let text = samples::get("geothermal-skarn-valley").article;
    json!({"text": text, "params": {"num_beams": 64, "min_new_tokens": tokens, "max_new_tokens": tokens}})
}

async fn worker_is_known(product: &Product) {
    eventually(Duration::from_secs(60), "a worker is live", async || {
        let (status, models) = product.get("/v1/models").await;
        (status == 200 && models.to_string().contains("default")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_worker_loses_and_duplicates_nothing() {
    let product = without_workers(3).await;
    let first = product.worker("first", &[]);
    worker_is_known(&product).await;
    let submitted = product.begun(&long_request()).await;
    first.kill();
    let _second = product.worker("second", &[]);
    let view = product.finished(&submitted.id).await;
    assert_eq!(view.status, Status::Succeeded, "{view:?}");
    assert!(view.attempt >= Some(2), "{view:?}");
    assert_eq!(view.worker.unwrap().id.as_str(), "second");
    let rows = product.stored_rows(&id_of(&submitted.id)).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0]["attempt"].as_u64() >= Some(2), "{}", rows[0]);
}

#[tokio::test]
async fn a_stopping_worker_finishes_started_jobs_and_hands_back_the_rest() {
    // Long enough that a job which is not handed back misses the test's timeout.
    let product = without_workers(300).await;
    let mut first = product.worker("first", &["worker.max_batch=1", DRAIN]);
    worker_is_known(&product).await;
    let begun = product.begun(&long_request()).await;
    let waiting = [
        product.submit(&long_request()).await,
        product.submit(&long_request()).await,
    ];
    first.signal(Signal::TERM);
    let status = first.ended(TO_DRAIN).await;
    assert!(status.success(), "{}", first.output());
    let view = product.finished(&begun.id).await;
    assert_eq!(
        (view.status, view.attempt),
        (Status::Succeeded, Some(1)),
        "{view:?}"
    );
    assert_eq!(view.worker.unwrap().id.as_str(), "first");

    let _second = product.worker("second", &[]);
    let ended = join_all(waiting.iter().map(|job| product.finished(&job.id))).await;
    for view in &ended {
        assert_eq!(view.status, Status::Succeeded, "{view:?}");
    }
    let worker = ended[1].worker.as_ref().unwrap().id.as_str();
    assert_eq!(
        worker, "second",
        "test setup: the jobs are too short for this machine"
    );
    for job in [&begun, &waiting[0], &waiting[1]] {
        let rows = product.stored_rows(&id_of(&job.id)).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
    }
}

#[tokio::test]
async fn a_job_past_its_deadline_leaves_the_decoding_batch() {
    let product = without_workers(30).await;
    let _worker = product.worker("only", &["worker.linger_ms=500"]);
    worker_is_known(&product).await;
    // Several requests, so that decoding exceeds the deadline on a fast machine too.
    let mut request = request_of(500);
    request["ttl_seconds"] = 5.into();
    let submitted = join_all((0..4).map(|_| product.submit(&request))).await;
    eventually(Duration::from_secs(60), "a job is shown as running", async || {
        for job in &submitted {
            let (_, view) = product.get(&format!("/v1/jobs/{}", job.id)).await;
            if view["status"] == "running" {
                return Some(());
            }
        }
        None
    })
    .await;
    let ended = join_all(submitted.iter().map(|job| product.finished(&job.id))).await;
    for view in &ended {
        let set_up = "test setup: the jobs are too short for this machine";
        assert_ne!(view.status, Status::Succeeded, "{set_up}");
        assert_eq!(view.status, Status::Expired, "{view:?}");
        let error = view.error.as_ref().unwrap();
        assert_eq!(error.code.as_str(), "deadline_exceeded");
    }
    // A job that expires before decoding has a batch size of 0.
    let in_a_batch = |view: &JobView| view.sizes.as_ref().is_some_and(|s| s.batch_size > 0);
    assert!(ended.iter().any(in_a_batch), "{ended:?}");
}

#[tokio::test]
async fn a_retry_after_an_unanswered_submission_finds_its_job() {
    let product = without_workers(30).await;
    let _worker = product.worker("only", &[]);
    worker_is_known(&product).await;
    let submit = async || {
        let request = product.http.post(format!("{}/v1/summaries", product.api));
        let request = request.header("idempotency-key", "order-17").json(&request_of(5));
        let response = request.send().await.expect("the gateway answers");
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let mut all = processes::mentioning(&product.data());
    all.retain(|process| process.program() == "nats-server");
    let [nats] = &all[..] else { panic!("{all:?}") };
    // The server receives the publish, but answers only after the gateway has given up.
    nats.signal(Signal::STOP);
    let (status, problem) = submit().await;
    nats.signal(Signal::CONT);
    assert_eq!(
        (status, problem["code"].as_str()),
        (503, Some("queue_unavailable"))
    );
    let job = eventually(Duration::from_secs(60), "the retry is accepted", async || {
        let (status, view) = submit().await;
        (status == 202).then(|| view["id"].as_str().unwrap().to_owned())
    })
    .await;
    assert_eq!(product.finished(&job).await.status, Status::Succeeded);
    let (_, again) = submit().await;
    assert_eq!(id_of(again["id"].as_str().unwrap()), id_of(&job));
    assert_eq!(product.stored_rows(&id_of(&job)).await.len(), 1);
    let stored = product
        .query("SELECT count() AS rows FROM prediction_versions")
        .await;
    assert_eq!(stored[0]["rows"].to_string().trim_matches('"'), "1");
}
