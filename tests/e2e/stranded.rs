//! Jobs that JetStream delivers no more, and whose advisory was lost.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config as PullConfig;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::message::AckKind;
use futures::StreamExt;
use precis_schemas::rest::Status;
use precis_schemas::topology::{ADVISORIES, JOBS};
use precis_tests::{Options, Product, eventually};
use serde_json::json;

use crate::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(60);

/// Creates a consumer of one tenant's jobs that gives up after a single delivery.
async fn consumer(product: &Product, tenant: &str) -> PullConsumer {
    let config = PullConfig {
        durable_name: Some(format!("worker-{tenant}")),
        filter_subject: format!("jobs.v1.default.normal.*.{tenant}"),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(1),
        max_deliver: 1,
        ..PullConfig::default()
    };
    let context = product.nats().await;
    context.create_consumer_on_stream(config, JOBS).await.unwrap()
}

async fn take(consumer: &PullConsumer, jobs: usize) -> Vec<async_nats::jetstream::Message> {
    let pulled = consumer.fetch().max_messages(jobs).messages().await.unwrap();
    let pulled: Vec<_> = pulled.map(Result::unwrap).collect().await;
    assert_eq!(pulled.len(), jobs);
    pulled
}

#[tokio::test]
async fn a_job_whose_advisory_was_lost_ends_and_jobs_in_flight_do_not() {
    let settings = [
        "standalone.start_monitor=false",
        "monitor.absent_grace_seconds=3600",
        "monitor.unserved_grace_seconds=3600",
    ];
    let options = Options {
        workers: 0,
        settings: settings.map(str::to_owned).into(),
        ..Options::default()
    };
    let product = Product::start(PROGRAM, options).await;
    let publish = async |tenant: &str, id: &str| {
        let body = json!({"id": id, "text": "Rain fell on the coast."}).to_string();
        product
            .publish(&format!("jobs.v1.default.normal.summarize.{tenant}"), body)
            .await
    };
    // Nobody keeps this consumer's only job alive.
    let idle = consumer(&product, "idle").await;
    let alone = publish("idle", "alone").await;
    take(&idle, 1).await;
    // Of this one's jobs, a worker lost the first and still works on the second.
    let busy = consumer(&product, "busy").await;
    let lost = publish("busy", "lost").await;
    publish("busy", "held").await;
    let held = Arc::new(take(&busy, 2).await.pop().unwrap());
    let holding = tokio::spawn({
        let held = Arc::clone(&held);
        async move {
            loop {
                held.ack_with(AckKind::Progress).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    eventually(PATIENCE, "JetStream gives both jobs up", async || {
        let pending = |info: &async_nats::jetstream::consumer::Info| info.num_ack_pending;
        let (idle, busy) = (idle.get_info().await.unwrap(), busy.get_info().await.unwrap());
        (pending(&idle) == 0 && pending(&busy) == 1).then_some(())
    })
    .await;
    let context = product.nats().await;
    context
        .get_stream(ADVISORIES)
        .await
        .unwrap()
        .purge()
        .await
        .unwrap();

    let _monitor = product.command("monitor", "monitor", &[]);
    is_ended(&product, "alone", alone).await;
    // The held job was in flight all the time. Once it is done, the server reports that nothing is.
    assert!(!holding.is_finished());
    assert!(product.result(&"held".parse().unwrap()).await.is_none());
    holding.abort();
    held.double_ack().await.unwrap();
    is_ended(&product, "lost", lost).await;
    assert!(product.result(&"held".parse().unwrap()).await.is_none());
}

/// Waits until the job has ended as exhausted, with a dead letter.
async fn is_ended(product: &Product, id: &str, sequence: u64) {
    let view = product.finished(&format!("{id}.{sequence}")).await;
    assert_eq!(view.status, Status::Failed, "{view:?}");
    assert_eq!(view.error.unwrap().code.as_str(), "too_many_attempts");
    let letter = product
        .dead_letter(0, |letter| letter.job_sequence == sequence)
        .await;
    assert_eq!(
        (letter.attempts, letter.reason.code.as_str()),
        (1, "too_many_attempts")
    );
}
