//! The gateway without a queue: the model is in the process, jobs and results are in its memory, NATS is not needed.
//! The same router serves it.
//!
//! | file | what |
//! | --- | --- |
//! | `queue.rs`, `book.rs`, `records.rs` | what stands in the place of NATS |
//! | `mod.rs` | hands jobs to the model, and results to whoever waits |
//! | `measure.rs`, `report.rs` | metrics of the results; telling a monitor |

mod book;
mod measure;
mod queue;
mod records;
mod report;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use precis_producer::Submission;
use precis_runtime::Context;
use precis_runtime::admin::Readiness;
use precis_runtime::liveness::Workers;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::HEARTBEAT_SECONDS;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, Outcome, Token, time};
use precis_worker::local::{LocalJob, LocalWorker};
use precis_worker::stages::infer::StopSignals;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::book::Taken;
pub(crate) use self::measure::describe as describe_metrics;
use self::queue::MemoryQueue;
use self::report::Reporter;
use crate::access::Gate;
use crate::analytics::Analytics;
use crate::queue::QueueBackend;
use crate::state::{AppState, Parts};
use crate::watch::progress::Running;
use crate::watch::wait::Waiters;
use crate::webhooks::Webhooks;

/// How long what is in hand may take when the process is to stop; open requests are cut off a little later.
const GRACE: Duration = Duration::from_secs(8);

/// The model and what surrounds it, ready to serve.
pub(crate) struct Local {
    /// For the router.
    pub(crate) state: AppState,
    /// Set: the model is there.
    pub(crate) readiness: Readiness,
    /// Does the work.
    pub(crate) desk: Desk,
}

/// Loads the model and starts to work.
///
/// # Errors
/// When the configuration makes no sense or the model can't be loaded.
pub(crate) async fn start(context: &Context) -> anyhow::Result<Local> {
    let config = &context.config;
    let served_as = Token::new("worker.serve_as", &config.worker.serve_as)?;
    anyhow::ensure!(
        config.api.default_model == served_as.as_str(),
        "api.default_model is `{}` and worker.serve_as is `{served_as}`: with api.engine = \"local\" there is one model, so \
         that they must be the same",
        config.api.default_model
    );
    let reporter = Reporter::new(&config.local)?;
    let settings = config.clone();
    let worker = tokio::task::spawn_blocking(move || LocalWorker::load(&settings))
        .await
        .context("loading the model")??;
    let (waiters, running, workers) = (Waiters::default(), Running::default(), Workers::default());
    let memory = MemoryQueue::new(served_as, config.local.clone(), waiters.clone(), running.clone());
    // Requests may wait for what is in hand: for them the process stops only when the grace is over.
    let over = CancellationToken::new();
    tokio::spawn(end_after_grace(context.stop.clone(), over.clone()));
    let desk = Desk {
        worker,
        memory: memory.clone(),
        running: running.clone(),
        workers: workers.clone(),
        reporter,
        room: Arc::new(Semaphore::new(config.worker.max_batch)),
        over: over.clone(),
    };
    desk.show_up();
    tokio::spawn(desk.clone().keep_showing_up());
    tokio::spawn(desk.clone().run());
    let readiness = Readiness::default();
    readiness.set(true);
    tracing::info!("the model is in this process; jobs and results are in its memory and end with it");
    let state = AppState::new(Parts {
        limits: config.limits.clone(),
        api: config.api.clone(),
        http: config.http.clone(),
        gate: Arc::new(Gate::new(&config.access)),
        batches: config.batches.clone(),
        webhooks: Webhooks::new(&config.webhooks, &config.access),
        result_ttl_hours: config.local.result_ttl_seconds.div_ceil(3_600),
        queue: Arc::new(memory),
        analytics: Analytics::new(&config.clickhouse),
        workers,
        waiters,
        running,
        stop: over,
    });
    Ok(Local {
        state,
        readiness,
        desk,
    })
}

async fn end_after_grace(stop: CancellationToken, over: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
    over.cancel();
}

/// Hands jobs to the model, and results to whoever waits for them.
#[derive(Clone)]
pub(crate) struct Desk {
    worker: LocalWorker,
    memory: MemoryQueue,
    running: Running,
    workers: Workers,
    reporter: Reporter,
    room: Arc<Semaphore>,
    over: CancellationToken,
}

impl Desk {
    async fn run(self) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = self.room.clone().acquire_owned().await else {
                return;
            };
            let taken = tokio::select! {
                taken = self.memory.next() => taken,
                () = self.over.cancelled() => return,
            };
            let desk = self.clone();
            tokio::spawn(async move {
                desk.work_to_an_end(taken).await;
                drop(place);
            });
        }
    }

    /// Whatever happens, the job ends.
    async fn work_to_an_end(&self, taken: Taken) {
        let handle = JobHandle {
            id: taken.submission.job.id.clone(),
            sequence: Some(taken.sequence),
        };
        if AssertUnwindSafe(self.work(taken)).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(job = %handle, "a job has made its worker panic");
        let termination = Termination {
            outcome: Outcome::Failed,
            reason: Refusal::new(ErrorCode::Internal, "the worker has failed on this job"),
            attempts: 1,
        };
        // In memory it can't fail; and if the job has a result by now, that one stays.
        let _ended = self.memory.terminate(&handle, &termination).await;
    }

    async fn work(&self, taken: Taken) {
        let Submission { job, subject, trace } = (*taken.submission).clone();
        let trace_id = trace.trace_id().to_owned();
        let job = LocalJob {
            job,
            subject,
            sequence: taken.sequence,
            submitted_at: taken.submitted_at,
            trace,
        };
        let stop = StopSignals {
            drain_deadline: self.over.clone(),
            cancelled: taken.cancelled.clone(),
        };
        let tell = |progress| {
            // What its client has cancelled has ended, whatever the model still writes.
            if !taken.cancelled.is_cancelled() {
                self.running.note(progress);
            }
        };
        let result = self.worker.run(job, stop, tell).await;
        // First: who waits for the end of all jobs then waits for the monitor to be told of them.
        self.reporter.tell(&result);
        self.memory.done(taken.sequence, &result);
        tracing::info!(
            job = %result.id,
            outcome = %result.outcome,
            channel = result.channel.as_str(),
            total_ms = time::millis_between(result.submitted_at, result.finished_at),
            trace_id,
            "job done"
        );
        measure::result(&result).await;
    }

    /// Waits until every job that was accepted has ended.
    pub(crate) async fn idle(&self) {
        self.memory.idle().await;
    }

    /// Waits until the monitor is told of every summary, or for so long.
    pub(crate) async fn flush(&self, longest: Duration) {
        self.reporter.flush(longest).await;
    }

    /// Says that the model is served.
    pub(crate) fn show_up(&self) {
        self.workers.note(self.worker.heartbeat());
    }

    async fn keep_showing_up(self) {
        let mut tick = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
        loop {
            tokio::select! {
                () = self.over.cancelled() => return,
                _ = tick.tick() => self.show_up(),
            }
        }
    }
}
