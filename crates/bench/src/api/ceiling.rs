//! The upper bound: the same messages on the same NATS server, without Precis around them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{self, message::PublishMessage};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use precis_schemas::headers;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::load::Caller;

const ECHO: &str = "bench.echo";
const JOBS: &str = "BENCH_JOBS";
const RESULTS: &str = "BENCH_RESULTS";

/// A task that is aborted on drop.
pub(super) struct BackgroundTask(JoinHandle<()>);

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A NATS request that carries a job, with its result as the reply. No stream stores either.
pub(super) struct Echo {
    client: Client,
    job: Bytes,
}

impl Echo {
    /// Returns `count` callers on one connection, and the responder on another.
    ///
    /// # Errors
    /// If the server can't be reached or refuses the subscription.
    pub(super) async fn connect_many(
        count: usize,
        url: &str,
        job: &Bytes,
        result: &Bytes,
    ) -> anyhow::Result<(Vec<Self>, BackgroundTask)> {
        let (client, server) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
        let mut requests = server.subscribe(ECHO).await?;
        server.flush().await?;
        let result = result.clone();
        let responder = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if let Some(reply) = request.reply {
                    // A lost reply surfaces in the caller.
                    let _ = server.publish(reply, result.clone()).await;
                }
            }
        });
        // The server may process a request before the other connection's subscription.
        while client.request(ECHO, job.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let caller = || Self {
            client: client.clone(),
            job: job.clone(),
        };
        let callers = std::iter::repeat_with(caller).take(count).collect();
        Ok((callers, BackgroundTask(responder)))
    }
}

impl Caller for Echo {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.client.request(ECHO, self.job.clone()).await?;
        Ok(())
    }
}

/// Callers that wait for a result, by job number.
type Waiters = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// A job's path through bare streams: the same steps with the same messages.
///
/// The caller publishes a job to a work queue and waits for the acknowledgement. A worker on another connection pulls
/// it, publishes its result, waits for the acknowledgement, and acknowledges the job with confirmation. The caller gets
/// the result by subscription.
pub(super) struct BareQueue {
    jetstream: jetstream::Context,
    job: Bytes,
    next: Arc<AtomicU64>,
    waiters: Waiters,
}

impl BareQueue {
    /// Returns `count` callers on one connection, and the worker on another.
    ///
    /// # Errors
    /// If the server can't be reached or refuses the streams.
    pub(super) async fn connect_many(
        count: usize,
        url: &str,
        job: &Bytes,
        result: &Bytes,
    ) -> anyhow::Result<(Vec<Self>, [BackgroundTask; 2])> {
        let (client, server) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
        let jetstream = jetstream::new(client.clone());
        let consumer = create_streams(&jetstream::new(server.clone())).await?;
        let waiters = Waiters::default();
        let mut results = client.subscribe("bench.results.*").await?;
        client.flush().await?;
        let waiting = waiters.clone();
        let listener = tokio::spawn(async move {
            while let Some(message) = results.next().await {
                let id = message.subject.rsplit('.').next().and_then(|id| id.parse().ok());
                if let Some(waiter) = id.and_then(|id| waiting.lock().remove(&id)) {
                    // Fails if the caller has stopped waiting.
                    let _ = waiter.send(());
                }
            }
        });
        let worker = tokio::spawn(work(server, consumer, result.clone()));
        let next = Arc::<AtomicU64>::default();
        let caller = || Self {
            jetstream: jetstream.clone(),
            job: job.clone(),
            next: next.clone(),
            waiters: waiters.clone(),
        };
        let callers = std::iter::repeat_with(caller).take(count).collect();
        Ok((callers, [BackgroundTask(listener), BackgroundTask(worker)]))
    }
}

/// Creates empty streams configured like the product's, and the worker's consumer.
async fn create_streams(jetstream: &jetstream::Context) -> anyhow::Result<PullConsumer> {
    for name in [JOBS, RESULTS] {
        // Fails in the first round, when the stream doesn't exist yet.
        let _ = jetstream.delete_stream(name).await;
    }
    let duplicate_window = Duration::from_secs(120);
    let jobs = StreamConfig {
        name: JOBS.to_owned(),
        subjects: vec!["bench.jobs".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        duplicate_window,
        allow_direct: true,
        ..StreamConfig::default()
    };
    let results = StreamConfig {
        name: RESULTS.to_owned(),
        subjects: vec!["bench.results.*".to_owned()],
        max_messages_per_subject: 1,
        duplicate_window,
        allow_direct: true,
        ..StreamConfig::default()
    };
    jetstream.create_stream(results).await?;
    let consumer = pull::Config {
        durable_name: Some("bench".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 4_096,
        ..pull::Config::default()
    };
    let jobs = jetstream.create_stream(jobs).await?;
    Ok(jobs.create_consumer(consumer).await?)
}

async fn work(server: Client, consumer: PullConsumer, result: Bytes) {
    let jetstream = jetstream::new(server.clone());
    loop {
        let pulled = consumer
            .batch()
            .max_messages(256)
            .expires(Duration::from_secs(1))
            .messages()
            .await;
        let Ok(mut messages) = pulled else { return };
        while let Some(Ok(message)) = messages.next().await {
            let (server, jetstream, result) = (server.clone(), jetstream.clone(), result.clone());
            tokio::spawn(async move {
                if let Err(error) = process(&server, &jetstream, &message, result).await {
                    tracing::warn!(%error, "a benchmark job failed");
                }
            });
        }
    }
}

async fn process(
    server: &Client,
    jetstream: &jetstream::Context,
    message: &jetstream::Message,
    result: Bytes,
) -> anyhow::Result<()> {
    let id = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(headers::MESSAGE_ID))
        .context("the job has no message id")?;
    let mut first_wins = HeaderMap::new();
    first_wins.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    let publish = PublishMessage::build().headers(first_wins).payload(result);
    jetstream
        .send_publish(format!("bench.results.{id}"), publish)
        .await?
        .await?;
    let reply = message.reply.clone().context("the job has no reply subject")?;
    server.request(reply, Bytes::from_static(b"+ACK")).await?;
    Ok(())
}

impl Caller for BareQueue {
    async fn call(&mut self) -> anyhow::Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        self.waiters.lock().insert(id, sender);
        let message = PublishMessage::build()
            .message_id(id.to_string())
            .payload(self.job.clone());
        self.jetstream.send_publish("bench.jobs", message).await?.await?;
        done.await.map_err(|_| anyhow!("the result listener has ended"))
    }
}
