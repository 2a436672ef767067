//! Lanes share a worker by weight, and tenants of a lane take turns.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::Subscriber;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use precis_schemas::topology::JOBS;
use precis_schemas::worker_consumers::{TenantLane, legacy_consumer_name};
use precis_schemas::{JobId, JobResult, JobSubject, Lane, Token, subject};
use precis_tests::{Options, Product, eventually};
use serde_json::json;

use crate::PROGRAM;

const FAULTY: &str = "worker.model=benchmark:faulty";
/// Publishes whose acknowledgements are awaited together.
const BLOCK: usize = 500;

async fn without_workers() -> Product {
    let options = Options {
        workers: 0,
        settings: vec!["worker.ack_wait_seconds=10".into()],
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

fn job_subject(lane: Lane, tenant: &str) -> JobSubject {
    format!("jobs.v1.default.{lane}.summarize.{tenant}")
        .parse()
        .unwrap()
}

/// Queues jobs with this text.
async fn queue(product: &Product, jobs: impl IntoIterator<Item = JobSubject>, text: &str) {
    let context = product.nats().await;
    let jobs: Vec<JobSubject> = jobs.into_iter().collect();
    for block in jobs.chunks(BLOCK) {
        let published = block.iter().map(|subject| {
            let body = json!({"id": JobId::generate(), "text": text}).to_string();
            context.publish(subject.to_string(), body.into())
        });
        let acknowledged = join_all(published)
            .await
            .into_iter()
            .map(|sent| async { sent.unwrap().await });
        for ack in join_all(acknowledged).await {
            ack.unwrap();
        }
    }
}

/// Subscribes to stored results.
async fn results(product: &Product) -> Subscriber {
    let client = async_nats::connect(&product.nats).await.unwrap();
    let results = client.subscribe(subject::ALL_DONE).await.unwrap();
    client.flush().await.unwrap();
    results
}

/// Returns the next `count` results, in the order in which they were stored.
async fn next(results: &mut Subscriber, count: usize) -> Vec<JobResult> {
    let read = async {
        let mut read = Vec::with_capacity(count);
        while read.len() < count {
            let message = results.next().await.unwrap();
            read.push(serde_json::from_slice(&message.payload).unwrap());
        }
        read
    };
    tokio::time::timeout(Duration::from_secs(120), read)
        .await
        .expect("the jobs end within two minutes")
}

#[tokio::test]
async fn a_busy_worker_serves_lanes_by_weight() {
    let product = without_workers().await;
    let mut results = results(&product).await;
    for lane in Lane::ALL {
        let jobs = std::iter::repeat_n(job_subject(*lane, "acme"), 400);
        queue(&product, jobs, "[[sleep 1]] Rain fell.").await;
    }
    let _worker = product.worker("only", &[FAULTY]);
    // The high lane is empty after about 650 jobs.
    let first = next(&mut results, 520).await;
    let served = |lane| first.iter().filter(|result| result.lane == lane).count() as f64;
    for (lane, wanted) in [(Lane::High, 320.0), (Lane::Normal, 160.0), (Lane::Bulk, 40.0)] {
        let share = served(lane) / wanted;
        assert!(
            (0.8..1.2).contains(&share),
            "{lane}: {} of {wanted}",
            served(lane)
        );
    }
    next(&mut results, 1_200 - 520).await;
}

#[tokio::test]
async fn a_tenant_with_many_jobs_does_not_hold_up_another() {
    let product = without_workers().await;
    let mut results = results(&product).await;
    let many = std::iter::repeat_n(job_subject(Lane::Normal, "many"), 20_000);
    queue(&product, many, "[[sleep 100]] Rain fell.").await;
    let _worker = product.worker("only", &[FAULTY, "worker.max_batch=4"]);
    next(&mut results, 50).await;
    let few = std::iter::repeat_n(job_subject(Lane::Normal, "few"), 10);
    queue(&product, few, "[[sleep 100]] Rain fell.").await;
    let (mut of_few, mut of_many) = (0, 0);
    while of_few < 10 {
        let result = &next(&mut results, 1).await[0];
        match result.tenant.as_str() {
            "few" => of_few += 1,
            _ => of_many += 1,
        }
    }
    // The tenants take turns: about 10. The others are those that end while the
    // worker learns of the new tenant, and those whose results were read late.
    assert!(of_many <= 40, "{of_many} jobs of the other tenant came first");
}

#[tokio::test]
async fn a_thousand_tenants_are_all_served() {
    let product = without_workers().await;
    let mut results = results(&product).await;
    let tenants: Vec<String> = (0..1_000).map(|number| format!("tenant-{number}")).collect();
    let jobs = || tenants.iter().map(|tenant| job_subject(Lane::Normal, tenant));
    queue(&product, jobs(), "Rain fell.").await;
    let _worker = product.worker("only", &[FAULTY]);
    let served = |results: Vec<JobResult>| -> HashSet<Token> {
        results.into_iter().map(|result| result.tenant).collect()
    };
    assert_eq!(served(next(&mut results, 1_000).await).len(), 1_000);
    // Now their consumers exist, and the worker has room.
    queue(&product, jobs(), "Rain fell.").await;
    assert_eq!(served(next(&mut results, 1_000).await).len(), 1_000);
}

#[tokio::test]
async fn the_consumer_of_an_earlier_release_is_replaced() {
    let product = without_workers().await;
    let model = Token::new("the model", "default").unwrap();
    let jobs = product.nats().await.get_stream(JOBS).await.unwrap();
    let legacy = legacy_consumer_name(&model, Lane::Normal);
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some(legacy.clone()),
        filter_subject: "jobs.v1.default.normal.>".into(),
        ..Default::default()
    };
    let earlier = jobs.create_consumer(config).await.unwrap();
    let subject = job_subject(Lane::Normal, "acme");
    queue(&product, std::iter::repeat_n(subject.clone(), 3), "Rain fell.").await;
    // A worker of that release holds one of them.
    let mut held = earlier.fetch().max_messages(1).messages().await.unwrap();
    held.try_next().await.unwrap().unwrap();
    let mut results = results(&product).await;
    let _worker = product.worker("only", &[FAULTY]);
    next(&mut results, 3).await;
    let names: Vec<String> = jobs.consumer_names().try_collect().await.unwrap();
    assert!(!names.contains(&legacy), "{names:?}");
    assert!(
        names.contains(&TenantLane::from(&subject).consumer_name()),
        "{names:?}"
    );
    eventually(Duration::from_secs(60), "the queue is empty", async || {
        let info = jobs.get_info().await.ok()?;
        (info.state.messages == 0).then_some(())
    })
    .await;
}
