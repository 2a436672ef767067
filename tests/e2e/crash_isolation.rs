//! Jobs that end the process of their worker, and jobs that are handed back.

use std::time::Duration;

use futures::future::join_all;
use precis_schemas::rest::Status;
use precis_schemas::worker_consumers::hand_backs_of;
use precis_schemas::{ErrorCode, JobId};
use precis_tests::{Options, Product, eventually, id_of};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::PROGRAM;

const FAULTY: &str = "worker.model=benchmark:faulty";

async fn without_workers() -> Product {
    let options = Options {
        workers: 0,
        settings: vec!["worker.ack_wait_seconds=2".into()],
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

/// Queues a job before any worker has announced the model.
async fn queue(product: &Product, text: &str) -> (JobId, u64) {
    let id = JobId::generate();
    let body = json!({"id": id, "text": text}).to_string();
    let sequence = product
        .publish("jobs.v1.default.normal.summarize.acme", body)
        .await;
    (id, sequence)
}

#[tokio::test]
async fn a_job_that_ends_the_process_fails_alone() {
    let product = without_workers().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(queue(&product, "[[sleep 700]] Rain fell.").await.0);
    }
    let (killer, _) = queue(&product, "[[abort]] Rain fell.").await;
    jobs.push(killer.clone());
    let ended = async || {
        let results = join_all(jobs.iter().map(|id| product.result(id))).await;
        results.into_iter().collect::<Option<Vec<_>>>()
    };
    let mut crashes = 0;
    let results = loop {
        assert!(crashes < 20, "the job was never given up");
        let mut worker = product.worker(&format!("worker-{crashes}"), &[FAULTY]);
        let all_ended = eventually(
            Duration::from_secs(120),
            "a crash or all results",
            async || match ended().await {
                Some(results) => Some(Some(results)),
                None => worker.has_exited().then_some(None),
            },
        );
        match all_ended.await {
            Some(results) => break results,
            None => crashes += 1,
        }
    };
    assert!(crashes >= 2, "{crashes}");
    for result in &results[..3] {
        assert_eq!(result.outcome.as_str(), "succeeded", "{result:?}");
    }
    let error = results[3].error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::TooManyAttempts, "{error:?}");
    let letter = product
        .dead_letter(0, |letter| letter.job_sequence == results[3].job_sequence)
        .await;
    assert_eq!(letter.reason.code, ErrorCode::TooManyAttempts);
    for id in &jobs {
        assert_eq!(product.stored_rows(id).await.len(), 1, "{id}");
    }
}

#[tokio::test]
async fn a_handed_back_job_is_not_suspected() {
    let product = without_workers().await;
    let (id, sequence) = queue(&product, "[[sleep 3000]] Rain fell.").await;
    for stop in 0..3 {
        let mut worker = product.worker(&format!("stopped-{stop}"), &[FAULTY, "worker.drain_seconds=0"]);
        eventually(Duration::from_secs(60), "the worker runs the job", async || {
            let (_, view) = product.get(&format!("/v1/jobs/{id}.{sequence}")).await;
            (view["attempt"] == stop + 1).then_some(())
        })
        .await;
        worker.signal(Signal::TERM);
        worker.ended(Duration::from_secs(30)).await;
    }
    let calls = product.nats().await.get_stream("CALLS").await.unwrap();
    let record = calls
        .get_last_raw_message_by_subject(&hand_backs_of(sequence))
        .await;
    let record: Value = serde_json::from_slice(&record.unwrap().payload).unwrap();
    assert_eq!(record["count"], 3);
    // A neighbour runs beside it, which it would not if the job were suspected.
    let last = product.worker("last", &[FAULTY]);
    let (neighbour, _) = queue(&product, "Snow fell.").await;
    eventually(Duration::from_secs(60), "the neighbour is done", async || {
        product.result(&neighbour).await
    })
    .await;
    assert_eq!(
        product.result(&id).await,
        None,
        "test setup: the job is too short"
    );
    let view = product.finished(&format!("{id}.{sequence}")).await;
    assert_eq!((view.status, view.attempt), (Status::Succeeded, Some(4)));
    assert!(!last.output().contains("running it alone"), "{}", last.output());
}

#[tokio::test]
async fn a_job_whose_result_exists_is_not_decoded() {
    let product = without_workers().await;
    let mut worker = product.worker("only", &[FAULTY]);
    let (first, _) = queue(&product, "Rain fell.").await;
    let result = eventually(Duration::from_secs(60), "the job is done", async || {
        product.result(&first).await
    })
    .await;
    let id: JobId = format!("chosen-{first}").parse().unwrap();
    let mut earlier = serde_json::to_value(&result).unwrap();
    earlier["id"] = json!(id);
    earlier["job_sequence"] = json!(result.job_sequence + 1);
    product
        .publish(&format!("results.v1.{id}"), earlier.to_string())
        .await;
    // Decoding it would end the process.
    let body = json!({"id": id, "text": "[[abort]]"}).to_string();
    let sequence = product
        .publish("jobs.v1.default.normal.summarize.acme", body)
        .await;
    product.left_the_queue(sequence).await;
    assert!(!worker.has_exited(), "{}", worker.output());
    assert_eq!(product.stored_rows(&id_of(id.as_str())).await.len(), 1);
}
