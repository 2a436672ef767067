//! Takes jobs from the queue, runs the model on them and stores their results.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use precis_api::JobEvents;
use precis_producer::Submission;
use precis_runtime::liveness::LiveWorkers;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::HEARTBEAT_SECONDS;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, Outcome, time};
use precis_worker::local::{LocalJob, LocalWorker};
use precis_worker::stages::infer::StopSignals;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::job_table::DeliveredJob;
use crate::metrics;
use crate::monitor::MonitorClient;
use crate::queue::MemoryQueue;

/// Runs jobs on the model. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    worker: LocalWorker,
    queue: MemoryQueue,
    events: JobEvents,
    workers: LiveWorkers,
    monitor: MonitorClient,
    stop: CancellationToken,
}

impl Dispatcher {
    /// Starts to run jobs, at most `max_concurrent` at a time, and to send heartbeats to `workers`, both until `stop`.
    pub(crate) fn start(
        worker: LocalWorker,
        queue: MemoryQueue,
        events: JobEvents,
        workers: LiveWorkers,
        monitor: MonitorClient,
        max_concurrent: usize,
        stop: CancellationToken,
    ) -> Self {
        let dispatcher = Self {
            worker,
            queue,
            events,
            workers,
            monitor,
            stop,
        };
        dispatcher.send_heartbeat();
        tokio::spawn(dispatcher.clone().send_heartbeats());
        tokio::spawn(dispatcher.clone().run(Arc::new(Semaphore::new(max_concurrent))));
        dispatcher
    }

    async fn run(self, permits: Arc<Semaphore>) {
        loop {
            // Nothing closes the semaphore.
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let job = tokio::select! {
                job = self.queue.next() => job,
                () = self.stop.cancelled() => return,
            };
            let dispatcher = self.clone();
            tokio::spawn(async move {
                dispatcher.finish(job).await;
                drop(permit);
            });
        }
    }

    /// Runs a job and stores its result. If the worker panics, the job ends as failed.
    async fn finish(&self, job: DeliveredJob) {
        let handle = JobHandle {
            id: job.submission.job.id.clone(),
            sequence: Some(job.sequence),
        };
        if AssertUnwindSafe(self.work(job)).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(job = %handle, "worker panicked on a job");
        let termination = Termination {
            outcome: Outcome::Failed,
            reason: Refusal::new(ErrorCode::Internal, "the worker failed on this job"),
            attempts: 1,
        };
        self.queue.terminate_job(&handle, &termination);
    }

    async fn work(&self, delivered: DeliveredJob) {
        let Submission { job, subject, trace } = (*delivered.submission).clone();
        let trace_id = trace.trace_id().to_owned();
        let job = LocalJob {
            job,
            subject,
            sequence: delivered.sequence,
            submitted_at: delivered.submitted_at,
            trace,
        };
        let stop = StopSignals {
            drain_deadline: self.stop.clone(),
            cancelled: delivered.cancelled.clone(),
            ..StopSignals::default()
        };
        let report = |progress| {
            // A cancelled job has ended, even while the model still writes.
            if !delivered.cancelled.is_cancelled() {
                self.events.progress(progress);
            }
        };
        let result = self.worker.run(job, stop, report).await;
        // Report before the job ends: `idle` followed by `flush` must include this report.
        self.monitor.report(&result);
        self.queue.store_result(delivered.sequence, &result);
        tracing::info!(
            job = %result.id,
            outcome = %result.outcome,
            channel = result.channel.as_str(),
            total_ms = time::millis_between(result.submitted_at, result.finished_at),
            trace_id,
            "job finished"
        );
        metrics::record_result(&result).await;
    }

    /// Waits until every accepted job has ended.
    #[cfg(feature = "lambda")]
    pub(crate) async fn idle(&self) {
        self.queue.idle().await;
    }

    /// Waits until every summary is reported to the monitor, at most for `timeout`.
    pub(crate) async fn flush(&self, timeout: Duration) {
        self.monitor.flush(timeout).await;
    }

    /// Marks the model as alive.
    pub(crate) fn send_heartbeat(&self) {
        self.workers.note(self.worker.heartbeat());
    }

    async fn send_heartbeats(self) {
        let mut tick = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => self.send_heartbeat(),
            }
        }
    }
}
