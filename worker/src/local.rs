//! A worker without a queue: the caller keeps jobs and results, and the model runs in the caller's process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use precis_runtime::trace_context::TraceContext;
use precis_runtime::{Config, clock};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::{Heartbeat, Progress};
use precis_schemas::{Job, JobResult, JobSubject, Outcome, Token};
use tokio::sync::watch;

use crate::delivery::Delivery;
use crate::identity::{WorkerIdentity, worker_id};
use crate::job::{JobRunner, RunContext};
use crate::metrics;
use crate::model::ServedModel;
use crate::pace::PaceMeter;
use crate::progress::ProgressSink;
use crate::settlement::Settlement;
use crate::stages::decode::{AcceptedJob, expired};
use crate::stages::infer::StopSignals;
use crate::stages::result::ResultBuilder;
use crate::tenant_slots::TenantSlots;

/// A loaded model that runs jobs and decodes them together. Cheap to clone.
#[derive(Clone)]
pub struct LocalWorker {
    model: Arc<ServedModel>,
    identity: WorkerIdentity,
    runner: JobRunner,
    in_flight: Arc<AtomicUsize>,
}

/// A job for a [`LocalWorker`].
#[derive(Debug, Clone)]
pub struct LocalJob {
    /// The job.
    pub job: Job,
    /// The subject that a queue would publish it on.
    pub subject: JobSubject,
    /// The job's position in the caller's order.
    pub sequence: u64,
    /// When the caller accepted the job.
    pub submitted_at: Timestamp,
    /// The trace of the request.
    pub trace: TraceContext,
}

impl LocalWorker {
    /// Loads the model of `[worker]`. Blocks while it reads the files and, for a hub id, downloads them.
    ///
    /// # Errors
    /// When the device is missing or the model can't be loaded.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        metrics::describe();
        let settings = &config.worker;
        let id = worker_id(settings.id.as_deref())?;
        let served_as = Token::new("worker.serve_as", &settings.serve_as)?;
        let model = Arc::new(ServedModel::load(settings, &id, &served_as, false)?);
        Ok(Self {
            identity: WorkerIdentity {
                id: id.clone(),
                // The sender is dropped: a local worker never reloads its model.
                model: watch::channel(model.clone()).1,
                lanes: settings.lanes.clone(),
                max_batch: settings.max_batch,
            },
            model,
            runner: JobRunner {
                worker: id,
                meter: PaceMeter::new(settings.max_batch),
                embeddings: settings.embeddings,
                scoring: TenantSlots::for_half_of_the_cores(),
                redelivers: false,
            },
            in_flight: Arc::default(),
        })
    }

    /// Returns a heartbeat for this moment.
    pub fn heartbeat(&self) -> Heartbeat {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        self.identity
            .heartbeat(in_flight, self.runner.meter.pace(), false)
    }

    /// Runs a job to its result. `on_progress` receives its progress events.
    pub async fn run(
        &self,
        job: LocalJob,
        stop: StopSignals,
        on_progress: impl Fn(Progress) + Sync,
    ) -> JobResult {
        let in_flight = InFlight::enter(&self.in_flight);
        let LocalJob {
            job,
            subject,
            sequence,
            submitted_at,
            trace,
        } = job;
        let accepted = AcceptedJob { job, subject };
        let delivery = Delivery {
            sequence,
            attempt: 1,
            hand_backs: 0,
            submitted_at,
            received_at: clock::now(),
            trace: Some(trace),
            fetch_span: None,
        };
        let refused = |outcome, reason| {
            let results = ResultBuilder {
                delivery: &delivery,
                signature: &self.model.signature,
            };
            results.refused(&accepted, outcome, reason)
        };
        let result = if let Some(reason) = expired(&accepted.job, delivery.received_at) {
            refused(Outcome::Expired, reason)
        } else {
            let context = RunContext {
                model: self.model.clone(),
                stop,
                in_flight: in_flight.count,
                permit: None,
            };
            let progress = ProgressCallback(on_progress);
            match self.runner.run(&accepted, &delivery, context, &progress).await {
                Settlement::Finish {
                    result: Some(result), ..
                } => *result,
                Settlement::Retry(reason) => refused(Outcome::Failed, reason),
                Settlement::Finish { result: None, .. } | Settlement::HandBack => {
                    let message = "the worker ended the job without a result";
                    refused(Outcome::Failed, Refusal::new(ErrorCode::Internal, message))
                }
            }
        };
        metrics::job_answered(&result);
        result
    }
}

/// Calls a function with each progress event.
struct ProgressCallback<F>(F);

impl<F: Fn(Progress) + Sync> ProgressSink for ProgressCallback<F> {
    async fn send(&self, progress: Progress) {
        (self.0)(progress);
    }
}

/// Counts a running job until it is dropped.
struct InFlight<'a> {
    counter: &'a AtomicUsize,
    /// Number of running jobs, this one included.
    count: usize,
}

impl<'a> InFlight<'a> {
    fn enter(counter: &'a AtomicUsize) -> Self {
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::in_flight(count);
        Self { counter, count }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        metrics::in_flight(self.counter.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}
