//! Takes jobs through the stages of a worker.
//!
//! ```text
//! fetch → decode → tokenize → request → infer → embed → result → score → publish_result → settle
//!                  └──────────────────── JobRunner ─────────────────┘
//! ```
//!
//! Each job runs in its own task. It joins the engine's decoding batch as soon as there is a permit, and its result is
//! published as soon as it is finished.

use std::sync::Arc;
use std::time::Duration;

use precis_runtime::clock;
use precis_runtime::config::Config;
use precis_runtime::results::Results;
use precis_schemas::Job;
use precis_schemas::worker_consumers::{ALONE_FROM_ATTEMPT, MAX_DELIVERIES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::cancel::Cancellations;
use crate::delivery::{Delivery, Fetched};
use crate::hand_backs::HandBacks;
use crate::job::{self, JobRunner, RunContext};
use crate::lease::Lease;
use crate::model::CurrentModel;
use crate::progress::{LeasedProgress, NatsProgress};
use crate::settlement::Settlement;
use crate::stages::decode::{AcceptedJob, RejectedMessage, decode};
use crate::stages::fetch::Fetcher;
use crate::stages::infer::StopSignals;
use crate::stages::publish_result::Publisher;
use crate::stages::settle::{acknowledge, settle};
use crate::{metrics, trace};

/// Jobs per permit that may wait for their result to be stored. When NATS is slow, the worker then stops fetching.
const UNSETTLED_PER_PERMIT: usize = 3;

/// The stages and their dependencies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub(crate) config: Config,
    pub(crate) model: CurrentModel,
    pub(crate) runner: JobRunner,
    pub(crate) cancellations: Cancellations,
    pub(crate) progress: NatsProgress,
    pub(crate) results: Results,
    pub(crate) publisher: Publisher,
    pub(crate) hand_backs: HandBacks,
    pub(crate) drain_deadline: CancellationToken,
}

impl Pipeline {
    /// Runs jobs until the fetcher stops, and waits until all of them are settled.
    pub(crate) async fn run(self, mut fetcher: Fetcher) {
        let max_batch = self.config.worker.max_batch;
        let linger = Duration::from_millis(self.config.worker.linger_ms);
        let permits = Arc::new(Semaphore::new(max_batch));
        let pipeline = Arc::new(self);
        let mut tasks = JoinSet::new();
        loop {
            // Wait for a permit before fetching: a job that is fetched too early is kept from other workers.
            let Ok(permit) = permits.clone().acquire_owned().await else {
                break;
            };
            drop(permit);
            let free = permits.available_permits().max(1);
            let Some(mut fetched) = fetcher.next(free, linger).await else {
                break;
            };
            trace::link_fetch(&mut fetched);
            let mut suspects = Vec::new();
            for mut job in fetched {
                if pipeline.is_suspect(&mut job.delivery).await {
                    suspects.push(job);
                } else {
                    pipeline.start(job, &permits, &mut tasks).await;
                }
            }
            if !suspects.is_empty() {
                pipeline
                    .run_alone(suspects, &mut fetcher, &permits, &mut tasks)
                    .await;
            }
            while tasks.len() > UNSETTLED_PER_PERMIT * max_batch {
                tasks.join_next().await.into_iter().for_each(log_panic);
            }
            while let Some(task) = tasks.try_join_next() {
                log_panic(task);
            }
        }
        join_all(&mut tasks).await;
    }

    /// Returns whether earlier deliveries of a job may have ended the process, and counts its hand-backs.
    async fn is_suspect(&self, delivery: &mut Delivery) -> bool {
        if delivery.attempt < ALONE_FROM_ATTEMPT {
            return false;
        }
        delivery.hand_backs = self.hand_backs.count(delivery).await;
        delivery.counted_attempt() >= ALONE_FROM_ATTEMPT
    }

    /// Runs the first of these jobs while this process holds no other one, so that it takes none along if it ends the
    /// process. Hands the rest back, also what the fetcher holds: they would be delivered once more for nothing.
    async fn run_alone(
        self: &Arc<Self>,
        suspects: Vec<Fetched>,
        fetcher: &mut Fetcher,
        permits: &Arc<Semaphore>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut suspects = suspects.into_iter();
        let Some(alone) = suspects.next() else {
            return;
        };
        fetcher.hand_back(suspects.collect()).await;
        join_all(tasks).await;
        let (sequence, attempt) = (alone.delivery.sequence, alone.delivery.attempt);
        tracing::warn!(
            sequence,
            attempt,
            "job was delivered repeatedly; running it alone"
        );
        self.start(alone, permits, tasks).await;
        join_all(tasks).await;
    }

    /// Decodes a message, and starts its task when there is a permit.
    async fn start(self: &Arc<Self>, fetched: Fetched, permits: &Arc<Semaphore>, tasks: &mut JoinSet<()>) {
        let Fetched {
            message,
            delivery,
            lease,
        } = fetched;
        let pipeline = self.clone();
        match decode(message, &self.config.limits.job(), clock::now()) {
            Ok(accepted) => {
                // The semaphore is never closed.
                let Ok(permit) = permits.clone().acquire_owned().await else {
                    return;
                };
                let in_flight = self.config.worker.max_batch - permits.available_permits();
                let span = job_span(&accepted.job, &delivery);
                // Boxed: the future is large, and spawning moves it.
                let task = Box::pin(pipeline.run_job(accepted, delivery, lease, in_flight, permit));
                tasks.spawn(task.instrument(span));
            }
            Err(rejected) => {
                let span = rejected
                    .job
                    .as_ref()
                    .map_or(Span::none(), |job| job_span(job, &delivery));
                tasks.spawn(pipeline.reject(*rejected, delivery, lease).instrument(span));
            }
        }
    }

    async fn run_job(
        self: Arc<Self>,
        accepted: AcceptedJob,
        delivery: Delivery,
        lease: Lease,
        in_flight: usize,
        permit: OwnedSemaphorePermit,
    ) {
        if delivery.attempt > 1 {
            metrics::job_redelivered();
        }
        if delivery.may_have_result(&accepted.job.id) && self.has_result(&accepted.job, &delivery).await {
            return acknowledge(&delivery, lease).await;
        }
        if delivery.counted_attempt() > MAX_DELIVERIES {
            let signature = self.model.borrow().signature.clone();
            let settlement = job::give_up(&accepted, &delivery, &signature);
            return self.settle(settlement, &delivery, lease).await;
        }
        let watcher = self.cancellations.watch(&accepted.job.id, delivery.sequence);
        let context = RunContext {
            model: self.model.borrow().clone(),
            stop: StopSignals {
                drain_deadline: self.drain_deadline.clone(),
                cancelled: watcher.token().clone(),
                lapsed: lease.lapsed().clone(),
            },
            in_flight,
            permit: Some(permit),
        };
        let progress = LeasedProgress {
            sink: &self.progress,
            lease: lease.renewer(),
        };
        let settlement = self.runner.run(&accepted, &delivery, context, &progress).await;
        drop(watcher);
        self.settle(settlement, &delivery, lease).await;
    }

    async fn reject(self: Arc<Self>, rejected: RejectedMessage, delivery: Delivery, lease: Lease) {
        let signature = self.model.borrow().signature.clone();
        let settlement = job::reject(rejected, &delivery, &signature);
        self.settle(settlement, &delivery, lease).await;
    }

    async fn settle(&self, settlement: Settlement, delivery: &Delivery, lease: Lease) {
        settle(settlement, delivery, lease, &self.publisher, &self.hand_backs).await;
    }

    /// Reports whether the job has a final result, of an earlier delivery or of a job with the same id.
    async fn has_result(&self, job: &Job, delivery: &Delivery) -> bool {
        match self.results.get(&job.id).await {
            Ok(found) => found.is_some_and(|found| !found.result.is_superseded_by(delivery.sequence)),
            Err(error) => {
                // Running the job again is harmless: the first result wins.
                tracing::debug!(%error, "looking up an earlier result failed");
                false
            }
        }
    }
}

fn job_span(job: &Job, delivery: &Delivery) -> Span {
    let trace_id = delivery.trace.as_ref().map_or("", |trace| trace.trace_id());
    tracing::info_span!("job", job = %job.id, trace_id)
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(task) = tasks.join_next().await {
        log_panic(task);
    }
}

fn log_panic(task: Result<(), JoinError>) {
    if let Err(error) = task {
        // The task dropped its lease, so the job is delivered again after the ack wait.
        tracing::error!(%error, "job task panicked");
    }
}
