//! What the same server can do with the same messages when nothing is around them: the ceiling of the path.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{self, message::PublishMessage};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::StreamExt;
use precis_schemas::headers;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::load::Caller;

const ECHO: &str = "bench.echo";
const JOBS: &str = "BENCH_JOBS";
const RESULTS: &str = "BENCH_RESULTS";

/// A task that ends with its owner.
pub(super) struct Background(JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Bare NATS: a request with a job, answered with its result. No stream, so nothing is kept.
pub(super) struct Echo {
    client: Client,
    job: Bytes,
}

impl Echo {
    /// Callers on one connection, and somebody on another who answers.
    ///
    /// # Errors
    /// When the server doesn't take the subscription.
    pub(super) async fn several(
        count: usize,
        url: &str,
        job: &Bytes,
        result: &Bytes,
    ) -> anyhow::Result<(Vec<Self>, Background)> {
        let (client, server) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
        let mut requests = server.subscribe(ECHO).await?;
        server.flush().await?;
        let result = result.clone();
        let answering = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if let Some(reply) = request.reply {
                    // An answer that is missing shows where it is waited for.
                    let _ = server.publish(reply, result.clone()).await;
                }
            }
        });
        // The server may hear of the request before it hears of the subscription.
        while client.request(ECHO, job.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let one = || Self {
            client: client.clone(),
            job: job.clone(),
        };
        let callers = std::iter::repeat_with(one).take(count).collect();
        Ok((callers, Background(answering)))
    }
}

impl Caller for Echo {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.client.request(ECHO, self.job.clone()).await?;
        Ok(())
    }
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// The same steps with the same messages: a job is published to a work queue and acknowledged by it, pulled by somebody
/// on another connection who publishes its result, waits for the stream's acknowledgement, and takes the job off the
/// queue with a confirmed one; the caller hears of the result.
pub(super) struct RawQueue {
    jetstream: jetstream::Context,
    job: Bytes,
    next: Arc<AtomicU64>,
    waiting: Waiting,
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RawQueue {
    /// Callers on one connection, and somebody on another who does the work.
    ///
    /// # Errors
    /// When the server doesn't take the streams.
    pub(super) async fn several(
        count: usize,
        url: &str,
        job: &Bytes,
        result: &Bytes,
    ) -> anyhow::Result<(Vec<Self>, [Background; 2])> {
        let (client, server) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
        let jetstream = jetstream::new(client.clone());
        let consumer = set_up(&jetstream::new(server.clone())).await?;
        let waiting = Waiting::default();
        let mut results = client.subscribe("bench.results.*").await?;
        client.flush().await?;
        let woken = waiting.clone();
        let hearing = tokio::spawn(async move {
            while let Some(message) = results.next().await {
                let id = message.subject.rsplit('.').next().and_then(|id| id.parse().ok());
                if let Some(sender) = id.and_then(|id| lock(&woken).remove(&id)) {
                    // A caller that has gone doesn't wait any more.
                    let _ = sender.send(());
                }
            }
        });
        let working = tokio::spawn(work(server, consumer, result.clone()));
        let next = Arc::<AtomicU64>::default();
        let one = || Self {
            jetstream: jetstream.clone(),
            job: job.clone(),
            next: next.clone(),
            waiting: waiting.clone(),
        };
        let callers = std::iter::repeat_with(one).take(count).collect();
        Ok((callers, [Background(hearing), Background(working)]))
    }
}

/// The streams as the product has them, empty.
async fn set_up(jetstream: &jetstream::Context) -> anyhow::Result<PullConsumer> {
    for name in [JOBS, RESULTS] {
        // The first time there is none.
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
                if let Err(error) = answer(&server, &jetstream, &message, result).await {
                    tracing::warn!(%error, "a message of the benchmark");
                }
            });
        }
    }
}

async fn answer(
    server: &Client,
    jetstream: &jetstream::Context,
    message: &jetstream::Message,
    result: Bytes,
) -> anyhow::Result<()> {
    let id = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(headers::MESSAGE_ID))
        .context("a message without an id")?;
    let mut first_wins = HeaderMap::new();
    first_wins.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    let publish = PublishMessage::build().headers(first_wins).payload(result);
    jetstream
        .send_publish(format!("bench.results.{id}"), publish)
        .await?
        .await?;
    let reply = message.reply.clone().context("a message without a reply")?;
    server.request(reply, Bytes::from_static(b"+ACK")).await?;
    Ok(())
}

impl Caller for RawQueue {
    async fn call(&mut self) -> anyhow::Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let message = PublishMessage::build()
            .message_id(id.to_string())
            .payload(self.job.clone());
        self.jetstream.send_publish("bench.jobs", message).await?.await?;
        done.await.map_err(|_| anyhow!("nobody hears of results"))
    }
}
