//! The queue in memory: jobs wait for the one worker of this process, and results are kept for a while.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use parking_lot::Mutex;
use precis_api::JobEvents;
use precis_api::queue::{
    CreateOutcome, JobEnd, QueueBackend, QueueDepth, QueuedJob, ReadConsistency, Record, TenantDepth,
    TerminationOutcome,
};
use precis_producer::{Accepted, Submission};
use precis_runtime::config::LocalConfig;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::reference::LateReference;
use precis_schemas::termination::Termination;
use precis_schemas::worker_consumers::TenantLane;
use precis_schemas::{JobHandle, JobId, JobResult, Token};
use tokio::sync::Notify;

use crate::job_table::{DeliveredJob, JobTable};
use crate::records::Records;

struct Inner {
    jobs: Mutex<JobTable>,
    records: Mutex<Records>,
    /// Notified when a job is published.
    published: Notify,
    /// Notified when the last unfinished job ends.
    idle: Notify,
    /// The name of the served model.
    model: Token,
    events: JobEvents,
}

/// The queue in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryQueue(Arc<Inner>);

impl MemoryQueue {
    /// Creates an empty queue for `model`. Results are reported to `events`.
    pub(crate) fn new(model: Token, settings: &LocalConfig, events: JobEvents) -> Self {
        Self(Arc::new(Inner {
            jobs: Mutex::new(JobTable::new(settings)),
            records: Mutex::new(Records::new(settings.max_results)),
            published: Notify::new(),
            idle: Notify::new(),
            model,
            events,
        }))
    }

    /// Waits for a job and delivers it: lanes by weight, each in order.
    pub(crate) async fn next(&self) -> DeliveredJob {
        loop {
            let published = self.0.published.notified();
            if let Some(job) = self.0.jobs.lock().deliver() {
                return job;
            }
            published.await;
        }
    }

    /// Stores the result of the job at `sequence`, unless the job has already ended.
    pub(crate) fn store_result(&self, sequence: u64, result: &JobResult) {
        let stored = self.0.jobs.lock().store(sequence, result);
        if let Some(stored) = stored {
            self.report_finished(&stored);
        }
    }

    /// Ends the job that the handle names.
    pub(crate) fn terminate_job(
        &self,
        handle: &JobHandle,
        termination: &Termination,
    ) -> Option<TerminationOutcome> {
        let outcome = self.0.jobs.lock().terminate(handle, termination);
        if let Some(TerminationOutcome::Terminated(result)) = &outcome {
            self.report_finished(result);
        }
        outcome
    }

    /// Waits until no job waits or runs.
    #[cfg(any(feature = "lambda", test))]
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.0.jobs.lock().is_idle() {
                return;
            }
            idle.await;
        }
    }

    fn report_finished(&self, result: &JobResult) {
        // A struct of strings, numbers and times always serializes.
        let body = serde_json::to_vec(result).unwrap_or_default();
        self.0.events.finished(&result.id, body.into());
        if self.0.jobs.lock().is_idle() {
            self.0.idle.notify_waiters();
        }
    }
}

/// A future that is ready with `value`.
fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T, Refusal>> {
    future::ready(Ok(value)).boxed()
}

impl QueueBackend for MemoryQueue {
    /// Jobs are deduplicated by id, so the message id does not matter.
    fn publish_as<'a>(
        &'a self,
        submission: &'a Submission,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Accepted, Refusal>> {
        let accepted = self.0.jobs.lock().accept(submission);
        self.0.published.notify_one();
        future::ready(accepted).boxed()
    }

    fn publish_reference<'a>(
        &'a self,
        _: &'a LateReference,
        _: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        future::ready(self.require_durable("a late reference")).boxed()
    }

    fn result<'a>(
        &'a self,
        id: &'a JobId,
        _: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobResult>, Refusal>> {
        ready(self.0.jobs.lock().result(id))
    }

    fn queued_job<'a>(
        &'a self,
        id: &'a JobId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<QueuedJob>, Refusal>> {
        let job = self.0.jobs.lock().queued_job(sequence);
        ready(job.filter(|job| job.id == *id))
    }

    fn count_jobs<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>> {
        ready(self.0.jobs.lock().count_jobs(tenant) as u64)
    }

    fn job_end<'a>(
        &'a self,
        id: &'a JobId,
        _: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobEnd>, Refusal>> {
        let result = self.0.jobs.lock().result(id);
        ready(result.map(|result| JobEnd {
            outcome: result.outcome,
            finished_at: result.finished_at,
        }))
    }

    fn batch_record(&self, _: String) -> BoxFuture<'_, Result<Option<Bytes>, Refusal>> {
        future::ready(self.require_durable("a batch").map(|()| None)).boxed()
    }

    fn put_batch_record(&self, _: String, _: Bytes) -> BoxFuture<'_, Result<(), Refusal>> {
        future::ready(self.require_durable("a batch")).boxed()
    }

    fn announce<'a>(&'a self, _: &'a Announcement, _: &'a str) -> BoxFuture<'a, Result<(), Refusal>> {
        future::ready(self.require_durable("a webhook")).boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<QueueDepth, Refusal>> {
        ready(self.0.jobs.lock().depth(&self.0.model))
    }

    fn tenant_depth<'a>(
        &'a self,
        jobs: &'a TenantLane,
    ) -> BoxFuture<'a, Result<Option<TenantDepth>, Refusal>> {
        ready(Some(self.0.jobs.lock().lane_depth(jobs.lane)))
    }

    fn terminate<'a>(
        &'a self,
        handle: &'a JobHandle,
        termination: &'a Termination,
    ) -> BoxFuture<'a, Result<Option<TerminationOutcome>, Refusal>> {
        ready(self.terminate_job(handle, termination))
    }

    /// Does nothing: [`terminate`](Self::terminate) has already told the worker.
    fn send_cancel(&self, _: Cancel) {}

    fn create_record<'a>(
        &'a self,
        name: &'a Token,
        body: Bytes,
    ) -> BoxFuture<'a, Result<CreateOutcome, Refusal>> {
        ready(self.0.records.lock().create(name, body))
    }

    fn update_record<'a>(
        &'a self,
        name: &'a Token,
        revision: u64,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, Refusal>> {
        ready(self.0.records.lock().update(name, revision, body))
    }

    fn record<'a>(&'a self, name: &'a Token) -> BoxFuture<'a, Result<Option<Record>, Refusal>> {
        ready(self.0.records.lock().get(name))
    }

    fn remove_record(&self, revision: u64) -> BoxFuture<'_, Result<(), Refusal>> {
        self.0.records.lock().remove(revision);
        ready(())
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn require_durable(&self, feature: &str) -> Result<(), Refusal> {
        Err(Refusal::new(
            ErrorCode::NeedsQueue,
            format!("this gateway has no queue (api.engine = \"local\"), which {feature} would need"),
        ))
    }
}

#[cfg(test)]
mod tests;
