//! Wires the stages: fetch → decode → tokenize → batch → infer → detokenize → publish → settle.
//!
//! One batch is in the model at a time; while it is, the results of the one before are published and
//! the pulls for the next stand open.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Client;
use precis_engine::Engine;
use precis_runtime::admin::{self, Readiness};
use precis_runtime::boot::Queue;
use precis_runtime::results::Results;
use precis_runtime::{Config, Context};
use precis_schemas::event::Progress;
use precis_schemas::result::{ModelRef, WorkerRef};
use precis_schemas::{Token, subject, time};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::heartbeat::{self, Identity};
use crate::lease::Leases;
use crate::stages::batch::Batch;
use crate::stages::decode::{Accepted, decode};
use crate::stages::detokenize::Signature;
use crate::stages::fetch::{Fetched, Fetcher, LaneQueue};
use crate::stages::infer::infer;
use crate::stages::publish_result::Publisher;
use crate::stages::settle;
use crate::stages::tokenize::{Tokenized, tokenize};
use crate::{metrics, model};

/// Longest that a job is held before it is left to another worker.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// Longest that a stopping worker waits for the server to take what is on its way.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);

/// Runs a worker until it is asked to stop, and then drains it.
///
/// # Errors
/// When a port is taken, the model can't be loaded, or NATS can't be reached.
pub async fn run(context: Context) -> anyhow::Result<()> {
    metrics::describe();
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
    let prepared = tokio::select! {
        prepared = prepare(&context) => prepared?,
        () = stop.cancelled() => return Ok(()),
    };
    let (queue, engine) = prepared;
    let identity = identify(config, &engine)?;
    tracing::info!(
        worker = %identity.worker,
        model = %identity.model.name,
        revision = %identity.model.revision,
        served_as = %identity.model.served_as,
        device = %identity.device,
        "worker ready"
    );

    let leases = Leases::default();
    let ack_wait = Duration::from_secs(config.worker.ack_wait_seconds);
    let lane_queue = LaneQueue {
        jetstream: queue.jetstream.clone(),
        model: identity.model.served_as.clone(),
        ack_wait,
        limits: config.queue.topology_limits(),
        settings: config.nats.clone(),
    };
    let mut fetcher = Fetcher::start(
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
    helpers.spawn(heartbeat::run(
        queue.client.clone(),
        identity.clone(),
        leases.clone(),
        stop.clone(),
    ));
    helpers.spawn(hurry_after(
        stop.clone(),
        Duration::from_secs(config.worker.drain_seconds),
        hurry.clone(),
    ));
    let pipeline = Pipeline {
        results: Results::open(&queue.jetstream).await?,
        publisher: Publisher::new(queue.jetstream.clone(), hurry.clone()),
        client: queue.client.clone(),
        signature: Arc::new(Signature {
            model: identity.model.clone(),
            worker: WorkerRef {
                id: identity.worker.clone(),
                device: identity.device.clone(),
            },
        }),
        engine,
        config: config.clone(),
        hurry: hurry.clone(),
    };
    readiness.set(true);
    pipeline.run(&mut fetcher).await;
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
async fn prepare(context: &Context) -> anyhow::Result<(Queue, Arc<Engine>)> {
    let queue = context.queue("precis-worker").await?;
    let settings = context.config.worker.clone();
    let engine = tokio::task::spawn_blocking(move || model::load(&settings))
        .await
        .context("loading the model")??;
    Ok((queue, engine))
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

fn identify(config: &Config, engine: &Engine) -> anyhow::Result<Identity> {
    let settings = &config.worker;
    let worker = match &settings.id {
        Some(id) => Token::new("worker.id", id)?,
        None => {
            let random = uuid::Uuid::now_v7().simple().to_string();
            let host = std::fs::read_to_string("/etc/hostname").unwrap_or_else(|_| "worker".into());
            let host: String = host.trim().chars().take(40).collect();
            Token::sanitized(&format!("{host}-{}", &random[24..]))
        }
    };
    let info = engine.info();
    Ok(Identity {
        worker,
        model: ModelRef {
            served_as: Token::new("worker.serve_as", &settings.serve_as)?,
            name: info.name.clone(),
            revision: info.revision.clone(),
        },
        lanes: settings.lanes.clone(),
        device: info.device.to_string(),
        max_batch: settings.max_batch,
        max_input_tokens: info.max_input_tokens,
    })
}

struct Pipeline {
    engine: Arc<Engine>,
    results: Results,
    publisher: Publisher,
    client: Client,
    signature: Arc<Signature>,
    config: Config,
    hurry: CancellationToken,
}

impl Pipeline {
    async fn run(&self, fetcher: &mut Fetcher) {
        let settings = &self.config.worker;
        let linger = Duration::from_millis(settings.linger_ms);
        let mut settling = JoinSet::new();
        while let Some(fetched) = fetcher.next(settings.max_batch, linger).await {
            let jobs = self.prepare(fetched, &mut settling).await;
            if !jobs.is_empty() {
                let batch = Batch::form(jobs, &settings.params, self.engine.default_params());
                for inferred in infer(self.engine.clone(), batch, self.hurry.clone()).await {
                    let (publisher, signature) = (self.publisher.clone(), self.signature.clone());
                    settling.spawn(async move { settle::inferred(inferred, &publisher, &signature).await });
                }
            }
            // Results of the last batches are published meanwhile; more than two batches of them mean
            // that the queue can't take them, and nothing new is begun.
            while settling.len() > 2 * settings.max_batch {
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

    /// Decodes and tokenizes what was fetched; what is no work for the model is answered at once.
    async fn prepare(&self, fetched: Vec<Fetched>, settling: &mut JoinSet<()>) -> Vec<Tokenized> {
        let now = time::now();
        let limits = self.config.limits.job();
        let mut jobs = Vec::with_capacity(fetched.len());
        for message in fetched {
            let (publisher, signature) = (self.publisher.clone(), self.signature.clone());
            let accepted = match decode(message, &limits, now) {
                Ok(accepted) => accepted,
                Err(answered) => {
                    settling.spawn(async move { settle::answered(*answered, &publisher, &signature).await });
                    continue;
                }
            };
            if accepted.delivery.attempt > 1 {
                metrics::redelivered();
                if self.has_result(&accepted).await {
                    settling.spawn(settle::already_answered(accepted));
                    continue;
                }
            }
            self.announce(&accepted).await;
            match tokenize(&self.engine, accepted).await {
                Ok(tokenized) => jobs.push(tokenized),
                Err(failed) => {
                    let (accepted, reason) = *failed;
                    settling.spawn(settle::untokenized(accepted, reason, publisher, signature));
                }
            }
        }
        jobs
    }

    /// Whether an earlier delivery of a job has been answered.
    async fn has_result(&self, accepted: &Accepted) -> bool {
        match self.results.get(&accepted.job.id).await {
            Ok(found) => found.is_some(),
            Err(error) => {
                // Doing it again is harmless: the first result wins.
                tracing::debug!(%error, "an earlier result could not be looked up");
                false
            }
        }
    }

    /// Says that the job is running, for whoever watches.
    async fn announce(&self, accepted: &Accepted) {
        let progress = Progress {
            id: accepted.job.id.clone(),
            attempt: accepted.delivery.attempt,
            worker: self.signature.worker.id.clone(),
            started_at: time::now(),
        };
        let sent = match serde_json::to_vec(&progress) {
            Ok(body) => {
                let subject = subject::progress_of(&accepted.job.id);
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
