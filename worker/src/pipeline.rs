//! Wires the stages: fetch → decode → tokenize → request → infer → detokenize → publish → settle.
//!
//! Every job goes its way alone: it is given to the engine as soon as there is room, which decodes it together with those
//! that it has, and its result is published as soon as it is there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Client;
use precis_runtime::admin::{self, Readiness};
use precis_runtime::boot::NatsConnection;
use precis_runtime::clock;
use precis_runtime::results::Results;
use precis_runtime::{Config, Context, spans};
use precis_schemas::event::Progress;
use precis_schemas::{JobId, Token, subject};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::cancel::Cancels;
use crate::heartbeat::{self, Identity};
use crate::lease::Leases;
use crate::pace::Meter;
use crate::serving::{self, Current, Serving};
use crate::stages::decode::{Accepted, Delivery, decode};
use crate::stages::embed::embed;
use crate::stages::fetch::{Fetcher, LaneQueue};
use crate::stages::infer::{Ends, RowOutcome, infer};
use crate::stages::publish_result::Publisher;
use crate::stages::score;
use crate::stages::settle;
use crate::stages::tokenize::tokenize;
use crate::{metrics, trace};

/// Longest that a job is held before it is left to another worker.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// Longest that a stopping worker waits for the server to take what is on its way.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);
/// A job is announced as running when it takes longer than this.
const WORTH_TELLING: Duration = Duration::from_millis(10);

/// Runs a worker until it is asked to stop, and then drains it.
///
/// # Errors
/// When a port is taken, the model can't be loaded, or NATS can't be reached.
pub async fn run(context: Context) -> anyhow::Result<()> {
    metrics::describe();
    spans::start(&context.config.telemetry, "precis-worker")?;
    let Context { config, stop } = &context;
    let readiness = Readiness::default();
    // The cheap checks come first: a taken port or a missing queue is known before the model is read.
    let admin = admin::bind("worker.admin_listen", config.worker.admin_listen).await?;
    let drained = CancellationToken::new();
    let mut helpers = JoinSet::new();
    let (routes, server_stop) = (admin::routes(readiness.clone()), drained.clone());
    helpers.spawn(async move {
        if let Err(error) = admin::serve(admin, routes, server_stop).await {
            tracing::error!(%error, "the admin server failed");
        }
    });
    let asked = serving::Asked::listen(&config.worker).context("listening for SIGHUP")?;
    let prepared = tokio::select! {
        prepared = prepare(&context) => prepared?,
        () = stop.cancelled() => return Ok(()),
    };
    let (queue, identity, replacement) = prepared;
    let model = identity.serving.borrow().signature.model.clone();
    tracing::info!(
        worker = %identity.worker,
        model = %model.name,
        revision = %model.revision,
        served_as = %model.served_as,
        device = %identity.serving.borrow().engine.info().device,
        "worker ready"
    );

    let leases = Leases::default();
    let ack_wait = Duration::from_secs(config.worker.ack_wait_seconds);
    let lane_queue = LaneQueue {
        client: queue.client.clone(),
        jetstream: queue.jetstream.clone(),
        model: model.served_as.clone(),
        ack_wait,
        limits: config.queue.topology_limits(),
        settings: config.nats.clone(),
    };
    let fetcher = Fetcher::start(
        &lane_queue,
        &config.worker.lanes,
        &leases,
        LONGEST_HOLD,
        stop.clone(),
    )
    .await?;

    // What helps the pipeline outlives it: progress and heartbeats go on while it drains.
    let hurry = CancellationToken::new();
    helpers.spawn(leases.clone().report_progress(ack_wait / 3, drained.clone()));
    let meter = Meter::default();
    helpers.spawn(heartbeat::run(
        queue.client.clone(),
        identity.clone(),
        leases.clone(),
        meter.clone(),
        stop.clone(),
    ));
    helpers.spawn(hurry_after(
        stop.clone(),
        Duration::from_secs(config.worker.drain_seconds),
        hurry.clone(),
    ));
    let cancels = Cancels::default();
    let results = Results::open(&queue.jetstream).await?;
    helpers.spawn(cancels.clone().listen(queue.client.clone(), drained.clone()));
    helpers.spawn(serving::replace(
        config.worker.clone(),
        identity.worker.clone(),
        replacement,
        asked,
        stop.clone(),
    ));
    let pipeline = Pipeline {
        cancels,
        meter,
        publisher: Publisher::new(queue.jetstream.clone(), results.clone(), hurry.clone()),
        results,
        client: queue.client.clone(),
        worker: identity.worker,
        serving: identity.serving,
        config: config.clone(),
        hurry: hurry.clone(),
    };
    readiness.set(true);
    // On a thread of the runtime, which need not be woken for every message as the main thread would have to be.
    tokio::spawn(pipeline.run(fetcher))
        .await
        .context("the pipeline")?;
    readiness.set(false);
    drained.cancel();
    hurry.cancel();
    while helpers.join_next().await.is_some() {}
    // Without a connection there is nothing to flush to, and a flush would wait for one.
    match tokio::time::timeout(LONGEST_FLUSH, queue.client.flush()).await {
        Ok(flushed) => flushed.context("flushing NATS")?,
        Err(_) => tracing::warn!("NATS can't be reached; what was not confirmed is delivered again"),
    }
    tracing::info!("worker stopped");
    Ok(())
}

/// Connects to the queue and loads the model.
async fn prepare(
    context: &Context,
) -> anyhow::Result<(NatsConnection, Identity, watch::Sender<Arc<Serving>>)> {
    let queue = context.queue("precis-worker").await?;
    let settings = context.config.worker.clone();
    let worker = name_of_worker(settings.id.as_deref())?;
    let served_as = Token::new("worker.serve_as", &settings.serve_as)?;
    let (lanes, max_batch) = (settings.lanes.clone(), settings.max_batch);
    let id = worker.clone();
    let serving = tokio::task::spawn_blocking(move || Serving::load(&settings, &id, &served_as, false))
        .await
        .context("loading the model")??;
    let (replacement, serving) = watch::channel(Arc::new(serving));
    let identity = Identity {
        worker,
        serving,
        lanes,
        max_batch,
    };
    Ok((queue, identity, replacement))
}

/// Cancels `hurry` a while after `stop`.
async fn hurry_after(stop: CancellationToken, patience: Duration, hurry: CancellationToken) {
    stop.cancelled().await;
    tokio::select! {
        () = tokio::time::sleep(patience) => {
            tracing::warn!("draining takes too long; handing back what is left");
            hurry.cancel();
        }
        () = hurry.cancelled() => {}
    }
}

/// The configured name, or one made of the host and a random part.
pub(crate) fn name_of_worker(id: Option<&str>) -> anyhow::Result<Token> {
    Ok(match id {
        Some(id) => Token::new("worker.id", id)?,
        None => {
            let random = uuid::Uuid::now_v7().simple().to_string();
            let host = std::fs::read_to_string("/etc/hostname").unwrap_or_else(|_| "worker".into());
            let host: String = host.trim().chars().take(40).collect();
            Token::sanitized(&format!("{host}-{}", &random[24..]))
        }
    })
}

#[derive(Clone)]
struct Pipeline {
    serving: Current,
    worker: Token,
    cancels: Cancels,
    meter: Meter,
    results: Results,
    publisher: Publisher,
    client: Client,
    config: Config,
    hurry: CancellationToken,
}

impl Pipeline {
    /// Takes as many jobs as there is room for, and gives each to the engine as soon as it is there.
    async fn run(self, mut fetcher: Fetcher) {
        let settings = &self.config.worker;
        let linger = Duration::from_millis(settings.linger_ms);
        let room = Arc::new(Semaphore::new(settings.max_batch));
        let mut settling = JoinSet::new();
        let pipeline = Arc::new(self.clone());
        loop {
            // Room first: what is pulled before there is any would be kept from other workers.
            let Ok(first) = room.clone().acquire_owned().await else {
                break;
            };
            drop(first);
            let Some(fetched) = fetcher.next(room.available_permits().max(1), linger).await else {
                break;
            };
            let now = clock::now();
            let limits = self.config.limits.job();
            let pull = trace::pulled(&fetched);
            for message in fetched {
                let accepted = match decode(message, pull.clone(), &limits, now) {
                    Ok(accepted) => accepted,
                    // What is no work for the model is answered at once.
                    Err(answered) => {
                        let signature = self.serving.borrow().signature.clone();
                        let publisher = self.publisher.clone();
                        settling.spawn(async move {
                            settle::answered(*answered, &publisher, &signature).await;
                        });
                        continue;
                    }
                };
                let Ok(place) = room.clone().acquire_owned().await else {
                    break;
                };
                let in_hand = settings.max_batch - room.available_permits();
                let within = tracing::info_span!(
                    "job",
                    job = %accepted.job.id,
                    trace_id = accepted.delivery.trace.as_ref().map_or("", |trace| trace.trace_id())
                );
                // In a box: it is large, and moved several times on its way.
                let work = Box::pin(pipeline.clone().work(accepted, in_hand, place));
                settling.spawn(work.instrument(within));
            }
            // Results are published meanwhile; many more of them than fit the model mean that the queue can't take them,
            // and nothing new is begun.
            while settling.len() > 3 * settings.max_batch {
                log_panic(settling.join_next().await);
            }
            while let Some(done) = settling.try_join_next() {
                log_panic(Some(done));
            }
        }
        while let Some(done) = settling.join_next().await {
            log_panic(Some(done));
        }
    }

    /// A job from its tokens to its acknowledgement. `place` is its room in the model.
    async fn work(self: Arc<Self>, accepted: Accepted, in_hand: usize, place: OwnedSemaphorePermit) {
        if accepted.delivery.attempt > 1 {
            metrics::redelivered();
            if self.has_result(&accepted).await {
                return settle::already_answered(accepted).await;
            }
        }
        let serving = self.serving.borrow().clone();
        if accepted.job.summary.is_some() {
            drop(place);
            return score::given(accepted, &self.publisher, &serving.signature).await;
        }
        let job = match tokenize(serving.clone(), accepted).await {
            Ok(job) => job,
            Err(failed) => {
                let (accepted, reason) = *failed;
                return settle::untokenized(accepted, reason, &self.publisher, &serving.signature).await;
            }
        };
        let row = serving.requests.form(job);
        let accepted = &row.tokenized.accepted;
        let (id, delivery) = (accepted.job.id.clone(), accepted.delivery.clone());
        let cancelled = self.cancels.watch(&id, delivery.sequence);
        let ends = Ends {
            hurry: self.hurry.clone(),
            cancelled: cancelled.token().clone(),
        };
        let (parts, mut told) = mpsc::channel::<Arc<[u32]>>(1);
        let tell = async {
            let mut part = match tokio::time::timeout(WORTH_TELLING, told.recv()).await {
                // It was done at once: its result says more than that it runs.
                Ok(None) => return,
                Ok(part) => part,
                Err(_) => {
                    self.announce(&id, &delivery, None).await;
                    told.recv().await
                }
            };
            let mut number = 0;
            while let Some(tokens) = part {
                if let Ok(text) = serving.engine.decode(&tokens) {
                    number += 1;
                    self.announce(&id, &delivery, Some((number, text))).await;
                }
                part = told.recv().await;
            }
        };
        let in_engine = self.meter.begin();
        let (mut inferred, ()) = tokio::join!(infer(serving.engine.clone(), row, in_hand, ends, parts), tell);
        metrics::inferred(in_hand, in_engine.took().as_secs_f64());
        if matches!(inferred.outcome, RowOutcome::Done(_) | RowOutcome::Failed(_)) {
            in_engine.done();
        } else {
            drop(in_engine);
        }
        embed(&serving.engine, self.config.worker.embeddings, &mut inferred).await;
        drop(place);
        drop(cancelled);
        settle::inferred(inferred, &self.publisher, &serving.signature).await;
    }

    /// Whether an earlier delivery of a job has been answered.
    async fn has_result(&self, accepted: &Accepted) -> bool {
        match self.results.get(&accepted.job.id).await {
            Ok(found) => found.is_some_and(|found| !found.result.gives_way_to(accepted.delivery.sequence)),
            Err(error) => {
                // Doing it again is harmless: the first result wins.
                tracing::debug!(%error, "an earlier result could not be looked up");
                false
            }
        }
    }

    /// Says that the job is running, and what there is of its summary, for whoever watches.
    async fn announce(&self, id: &JobId, delivery: &Delivery, text: Option<(u64, String)>) {
        let (part, text) = text.unzip();
        let progress = Progress {
            id: id.clone(),
            attempt: delivery.attempt,
            worker: self.worker.clone(),
            started_at: delivery.received_at,
            job_sequence: Some(delivery.sequence),
            part,
            text,
        };
        let sent = match serde_json::to_vec(&progress) {
            Ok(body) => {
                let subject = subject::progress_of(id);
                self.client
                    .publish(subject, body.into())
                    .await
                    .map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "progress could not be announced");
        }
    }
}

fn log_panic(done: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = done {
        // The job's lease went with the task, so the job is delivered again.
        tracing::error!(%error, "settling a job failed");
    }
}
