//! The queue in memory: jobs wait for the one worker of this process, and results are kept for a while.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use parking_lot::Mutex;
use precis_api::JobEvents;
use precis_api::queue::{
    CreateOutcome, JobEnd, QueueBackend, QueueDepth, QueuedJob, ReadConsistency, Record, TerminationOutcome,
};
use precis_producer::{Accepted, Submission};
use precis_runtime::config::LocalConfig;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::reference::LateReference;
use precis_schemas::termination::Termination;
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

    fn queued_job(&self, sequence: u64) -> BoxFuture<'_, Result<Option<QueuedJob>, Refusal>> {
        ready(self.0.jobs.lock().queued_job(sequence))
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

    fn announce<'a>(&'a self, _: &'a Announcement) -> BoxFuture<'a, Result<(), Refusal>> {
        future::ready(self.require_durable("a webhook")).boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<QueueDepth, Refusal>> {
        ready(self.0.jobs.lock().depth(&self.0.model))
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
            format!("{feature} needs a queue, and this gateway has none (api.engine = local)"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use precis_schemas::{Channel, Job, JobSubject, Lane, Outcome};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::testing::result;

    fn queue(settings: &LocalConfig) -> MemoryQueue {
        let model = Token::new("a model", "default").unwrap();
        MemoryQueue::new(model, settings, JobEvents::default())
    }

    impl MemoryQueue {
        async fn publish(&self, submission: &Submission) -> Result<JobHandle, Refusal> {
            let accepted = self.publish_as(submission, submission.job.id.as_str()).await?;
            Ok(accepted.handle)
        }
    }

    fn submission(id: &str, lane: Lane) -> Submission {
        let mut subject: JobSubject = "jobs.v1.default.normal.summarize.public".parse().unwrap();
        subject.lane = lane;
        Submission {
            subject,
            job: Job {
                channel: Channel::Api,
                ..Job::from_json(format!(r#"{{"id":"{id}","text":"x"}}"#).as_bytes()).unwrap()
            },
            trace: TraceContext::continue_or_begin(None, None),
        }
    }

    fn cancellation() -> Termination {
        Termination {
            outcome: Outcome::Cancelled,
            reason: Refusal::new(ErrorCode::Cancelled, "the client cancelled the job"),
            attempts: 0,
        }
    }

    #[tokio::test]
    async fn lanes_share_by_weight_and_keep_their_order() {
        let queue = queue(&LocalConfig::default());
        let count = Lane::High.weight() as usize * 3;
        for number in 0..count {
            for lane in [Lane::Bulk, Lane::High] {
                let id = format!("{lane}-{number}");
                queue.publish(&submission(&id, lane)).await.unwrap();
            }
        }
        let mut ids = Vec::new();
        let round = (Lane::High.weight() + Lane::Bulk.weight()) as usize;
        for _ in 0..2 * round {
            ids.push(queue.next().await.submission.job.id.to_string());
        }
        let delivered = |lane: &str| -> Vec<String> {
            let of_lane = ids.iter().filter(|id| id.starts_with(lane));
            of_lane.cloned().collect()
        };
        let expected = |lane: Lane| -> Vec<String> {
            let numbers = 0..2 * lane.weight();
            numbers.map(|number| format!("{lane}-{number}")).collect()
        };
        assert_eq!(delivered("bulk"), expected(Lane::Bulk));
        assert_eq!(delivered("high"), expected(Lane::High));
        assert!(ids[0].starts_with("high"));
    }

    #[tokio::test]
    async fn waiting_jobs_are_bounded_and_an_id_is_accepted_once() {
        let queue = queue(&LocalConfig {
            max_jobs: 2,
            ..LocalConfig::default()
        });
        let publish = async |id: &str| queue.publish(&submission(id, Lane::Normal)).await;
        let first = publish("a").await.unwrap();
        assert_eq!(publish("a").await.unwrap(), first);
        publish("b").await.unwrap();
        assert_eq!(publish("c").await.unwrap_err().code, ErrorCode::QueueFull);
        let delivered = queue.next().await;
        publish("c").await.unwrap();
        let depth = queue.depth().await.unwrap();
        let normal = depth.lanes.iter().find(|lane| lane.lane == Lane::Normal).unwrap();
        assert_eq!((delivered.sequence, depth.last_sequence), (1, 3));
        assert_eq!((normal.delivered, normal.pending), (1, 2));
        assert_eq!(queue.queued_job(1).await.unwrap().unwrap().id, first.id);
        queue.store_result(1, &result("a", 1));
        assert_eq!(queue.queued_job(1).await.unwrap(), None);
        assert_eq!(publish("a").await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_cancelled_job_leaves_the_queue_and_its_id_can_be_submitted_again() {
        let queue = queue(&LocalConfig::default());
        let publish = async |id: &str| queue.publish(&submission(id, Lane::Normal)).await.unwrap();
        let (waits, runs) = (publish("a").await, publish("b").await);
        let outcome = queue.terminate(&waits, &cancellation()).await.unwrap();
        let Some(TerminationOutcome::Terminated(record)) = outcome else {
            panic!("the job was not terminated");
        };
        assert_eq!((record.outcome, record.job_sequence), (Outcome::Cancelled, 1));
        let again = queue.terminate(&waits, &cancellation()).await.unwrap();
        assert_eq!(again, Some(TerminationOutcome::AlreadyFinished(record)));

        // The other job is delivered, and terminating it tells its worker.
        let delivered = queue.next().await;
        assert_eq!(delivered.sequence, 2);
        let outcome = queue.terminate(&runs, &cancellation()).await.unwrap();
        assert!(matches!(outcome, Some(TerminationOutcome::Terminated(_))));
        assert!(delivered.cancelled.is_cancelled());
        // The worker's own result comes too late.
        queue.store_result(2, &result("b", 2));
        let stored = queue.result(&runs.id, ReadConsistency::Any).await.unwrap();
        assert_eq!(stored.unwrap().outcome, Outcome::Cancelled);

        let second = publish("b").await;
        assert_eq!(second.sequence, Some(3));
        queue.store_result(3, &result("b", 3));
        let stored = queue.result(&second.id, ReadConsistency::Any).await.unwrap();
        let stored = stored.unwrap();
        assert_eq!((stored.outcome, stored.job_sequence), (Outcome::Succeeded, 3));
        let first = queue.terminate(&runs, &cancellation()).await.unwrap();
        assert!(matches!(first, Some(TerminationOutcome::AlreadyFinished(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn results_expire_and_are_kept_without_their_texts() {
        let queue = queue(&LocalConfig {
            max_results: 2,
            result_ttl_seconds: 60,
            ..LocalConfig::default()
        });
        let read = async |id: &str| {
            let id = id.parse().unwrap();
            queue.result(&id, ReadConsistency::Any).await.unwrap()
        };
        for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
            queue.publish(&submission(id, Lane::Normal)).await.unwrap();
            queue.store_result(sequence, &result(id, sequence));
        }
        assert_eq!(read("a").await, None);
        let kept = read("b").await.unwrap();
        assert_eq!((kept.summary.is_some(), kept.text.as_str()), (true, ""));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(read("c").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_waits_for_the_last_job() {
        let queue = queue(&LocalConfig::default());
        queue.idle().await;
        let first = queue.publish(&submission("a", Lane::Normal)).await.unwrap();
        queue.publish(&submission("b", Lane::Normal)).await.unwrap();
        let is_idle = CancellationToken::new();
        let (waiting, idle) = (queue.clone(), is_idle.clone());
        tokio::spawn(async move {
            waiting.idle().await;
            idle.cancel();
        });
        queue.store_result(2, &result("b", 2));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!is_idle.is_cancelled());
        queue.terminate(&first, &cancellation()).await.unwrap();
        is_idle.cancelled().await;
    }
}
