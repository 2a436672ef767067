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

/// Starts the product without workers and monitor.
async fn start() -> Product {
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
    Product::start(PROGRAM, options).await
}

async fn publish(product: &Product, tenant: &str, id: &str) -> u64 {
    let body = json!({"id": id, "text": "Rain fell on the coast."}).to_string();
    product
        .publish(&format!("jobs.v1.default.normal.summarize.{tenant}"), body)
        .await
}

async fn lose_advisories(product: &Product) {
    let context = product.nats().await;
    let advisories = context.get_stream(ADVISORIES).await.unwrap();
    advisories.purge().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_advisory_was_lost_ends_and_jobs_in_flight_do_not() {
    let product = start().await;
    // Nobody keeps this consumer's only job alive.
    let idle = consumer(&product, "idle").await;
    let alone = publish(&product, "idle", "alone").await;
    take(&idle, 1).await;
    // Of this one's jobs, a worker lost the first and still works on the second.
    let busy = consumer(&product, "busy").await;
    let lost = publish(&product, "busy", "lost").await;
    publish(&product, "busy", "held").await;
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
    lose_advisories(&product).await;

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

#[tokio::test]
async fn a_stranded_job_ends_although_its_consumer_always_has_a_job_in_flight() {
    let product = Arc::new(start().await);
    let busy = consumer(&product, "busy").await;
    let lost = publish(&product, "busy", "lost").await;
    take(&busy, 1).await;
    let working = tokio::spawn(work(product.clone(), busy.clone()));
    // New jobs arrive all the time, also while the consumer is paused.
    let publishing = tokio::spawn({
        let product = product.clone();
        async move {
            for number in 0.. {
                publish(&product, "busy", &format!("steady-{number}")).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    eventually(PATIENCE, "JetStream gives the job up", async || {
        let advisories = product.nats().await.get_stream(ADVISORIES).await.unwrap();
        (advisories.cached_info().state.messages > 0).then_some(())
    })
    .await;
    lose_advisories(&product).await;

    let _monitor = product.command("monitor", "monitor", &[]);
    is_ended(&product, "lost", lost).await;
    assert!(!working.is_finished());
    // The consumer delivers again.
    let delivered = busy.get_info().await.unwrap().delivered.stream_sequence;
    eventually(PATIENCE, "the consumer delivers again", async || {
        let info = busy.get_info().await.unwrap();
        (info.delivered.stream_sequence > delivered).then_some(())
    })
    .await;
    working.abort();
    publishing.abort();
}

/// Publishes jobs and works on several at a time, so that the consumer always has one in flight unless it is paused.
async fn work(product: Arc<Product>, consumer: PullConsumer) {
    const PERIOD: Duration = Duration::from_millis(250);
    for number in 0.. {
        publish(&product, "busy", &format!("other-{number}")).await;
        let mut pulled = consumer.fetch().max_messages(10).messages().await.unwrap();
        while let Some(message) = pulled.next().await {
            let message = message.unwrap();
            tokio::spawn(async move {
                for _ in 0..3 {
                    tokio::time::sleep(PERIOD).await;
                    message.ack_with(AckKind::Progress).await.unwrap();
                }
                message.ack().await.unwrap();
            });
        }
        tokio::time::sleep(PERIOD).await;
    }
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
