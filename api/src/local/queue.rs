//! The queue in the process's own memory: jobs wait here for the one worker that is here too, and their results are
//! kept for a while. It ends with the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use precis_producer::Submission;
use precis_runtime::config::LocalConfig as Settings;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::reference::LateReference;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, JobId, JobResult, Token};
use tokio::sync::Notify;

use super::book::{Book, Taken};
use super::records::Records;
use crate::queue::QueueDepth;
use crate::queue::{
    CreateOutcome, JobEnd, QueueBackend, QueuedJob, ReadConsistency, Record, TerminationOutcome,
};
use crate::watch::progress::Running;
use crate::watch::wait::Waiters;

struct Inner {
    book: Mutex<Book>,
    records: Mutex<Records>,
    /// Told when a job has come.
    arrived: Notify,
    /// Told when the last job has ended.
    idle: Notify,
    /// Name of the one model.
    model: Token,
    settings: Settings,
    waiters: Waiters,
    running: Running,
}

/// The queue in memory. Cheap to clone.
#[derive(Clone)]
pub(super) struct MemoryQueue(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is made whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryQueue {
    /// An empty queue for the model of this name. Ends are told to `waiters`, and `running` forgets those jobs.
    pub(super) fn new(model: Token, settings: Settings, waiters: Waiters, running: Running) -> Self {
        Self(Arc::new(Inner {
            book: Mutex::default(),
            records: Mutex::default(),
            arrived: Notify::new(),
            idle: Notify::new(),
            model,
            settings,
            waiters,
            running,
        }))
    }

    /// Waits for a job and takes it off: lanes by weight, each in order.
    pub(super) async fn next(&self) -> Taken {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(taken) = lock(&self.0.book).take() {
                return taken;
            }
            arrived.await;
        }
    }

    /// Stores the result of the job at `sequence`, unless it was ended before.
    pub(super) fn done(&self, sequence: u64, result: &JobResult) {
        let kept = lock(&self.0.book).store(sequence, result, &self.0.settings);
        if let Some(kept) = kept {
            self.tell(&kept);
        }
    }

    /// Waits until no job waits or runs.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if lock(&self.0.book).is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Tells those who wait for a job of its end.
    fn tell(&self, result: &JobResult) {
        self.0.running.forget(&result.id);
        // A struct of texts, numbers and times always has a JSON form.
        let body = serde_json::to_vec(result).unwrap_or_default();
        self.0.waiters.stored(&result.id, body.into());
        if lock(&self.0.book).is_idle() {
            self.0.idle.notify_waiters();
        }
    }
}

fn at_once<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, Result<T, Refusal>> {
    future::ready(Ok(answer)).boxed()
}

impl QueueBackend for MemoryQueue {
    /// A job of an id that was cancelled is another one here, whatever its message is called.
    fn publish_as<'a>(
        &'a self,
        submission: &'a Submission,
        _: &'a str,
    ) -> BoxFuture<'a, Result<JobHandle, Refusal>> {
        let accepted = lock(&self.0.book).accept(submission, &self.0.settings);
        self.0.arrived.notify_one();
        let handle = accepted.map(|sequence| JobHandle {
            id: submission.job.id.clone(),
            sequence: Some(sequence),
        });
        future::ready(handle).boxed()
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
        at_once(lock(&self.0.book).result(id, &self.0.settings))
    }

    fn queued_job(&self, sequence: u64) -> BoxFuture<'_, Result<Option<QueuedJob>, Refusal>> {
        at_once(lock(&self.0.book).queued_job(sequence))
    }

    fn count_jobs<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>> {
        at_once(lock(&self.0.book).count_of(tenant) as u64)
    }

    fn job_end<'a>(
        &'a self,
        id: &'a JobId,
        _: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobEnd>, Refusal>> {
        let result = lock(&self.0.book).result(id, &self.0.settings);
        at_once(result.map(|result| JobEnd {
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
        at_once(lock(&self.0.book).depth(&self.0.model))
    }

    fn terminate<'a>(
        &'a self,
        handle: &'a JobHandle,
        termination: &'a Termination,
    ) -> BoxFuture<'a, Result<Option<TerminationOutcome>, Refusal>> {
        let ended = lock(&self.0.book).end(handle, termination, &self.0.settings);
        if let Some(TerminationOutcome::Terminated(result)) = &ended {
            self.tell(result);
        }
        at_once(ended)
    }

    /// The worker is in this process and was told when the job was ended.
    fn send_cancel(&self, _: Cancel) {}

    fn create_record<'a>(
        &'a self,
        name: &'a Token,
        body: Bytes,
    ) -> BoxFuture<'a, Result<CreateOutcome, Refusal>> {
        at_once(lock(&self.0.records).create(name, body, self.0.settings.max_results))
    }

    fn update_record<'a>(
        &'a self,
        name: &'a Token,
        revision: u64,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, Refusal>> {
        at_once(lock(&self.0.records).update(name, revision, body, self.0.settings.max_results))
    }

    fn record<'a>(&'a self, name: &'a Token) -> BoxFuture<'a, Result<Option<Record>, Refusal>> {
        at_once(lock(&self.0.records).get(name))
    }

    fn remove_record(&self, revision: u64) -> BoxFuture<'_, Result<(), Refusal>> {
        lock(&self.0.records).remove(revision);
        at_once(())
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn require_durable(&self, what: &str) -> Result<(), Refusal> {
        Err(Refusal::new(
            ErrorCode::NeedsQueue,
            format!("{what} is kept in a queue, and this gateway has none (api.engine = local)"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use precis_schemas::{Channel, Job, Lane, Outcome};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::testing::result;

    fn queue(settings: Settings) -> MemoryQueue {
        let model = Token::new("a model", "default").unwrap();
        MemoryQueue::new(model, settings, Waiters::default(), Running::default())
    }

    impl MemoryQueue {
        async fn publish(&self, submission: &Submission) -> Result<JobHandle, Refusal> {
            self.publish_as(submission, submission.job.id.as_str()).await
        }
    }

    fn submission(id: &str, lane: Lane) -> Submission {
        let mut subject: precis_schemas::JobSubject =
            "jobs.v1.default.normal.summarize.public".parse().unwrap();
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

    fn cancelled() -> Termination {
        Termination {
            outcome: Outcome::Cancelled,
            reason: Refusal::new(ErrorCode::Cancelled, "the client cancelled the job"),
            attempts: 0,
        }
    }

    #[tokio::test]
    async fn lanes_share_by_weight_and_keep_their_order() {
        let queue = queue(Settings::default());
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
        let of = |lane: &str| -> Vec<String> {
            let all = ids.iter().filter(|id| id.starts_with(lane));
            all.cloned().collect()
        };
        let first = |lane: Lane| -> Vec<String> {
            let numbers = 0..2 * lane.weight();
            numbers.map(|number| format!("{lane}-{number}")).collect()
        };
        assert_eq!(of("bulk"), first(Lane::Bulk));
        assert_eq!(of("high"), first(Lane::High));
        assert!(ids[0].starts_with("high"));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_the_same_id_is_the_same_job() {
        let queue = queue(Settings {
            max_jobs: 2,
            ..Settings::default()
        });
        let publish = async |id: &str| queue.publish(&submission(id, Lane::Normal)).await;
        let first = publish("a").await.unwrap();
        assert_eq!(publish("a").await.unwrap(), first);
        publish("b").await.unwrap();
        assert_eq!(publish("c").await.unwrap_err().code, ErrorCode::QueueFull);
        let taken = queue.next().await;
        publish("c").await.unwrap();
        let depth = queue.depth().await.unwrap();
        assert_eq!(depth.position(&taken.submission.subject, 3), Some(1));
        assert_eq!(queue.queued_job(1).await.unwrap().unwrap().id, first.id);
        queue.done(1, &result("a", 1));
        assert_eq!(queue.queued_job(1).await.unwrap(), None);
        assert_eq!(publish("a").await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_cancelled_job_leaves_and_its_id_can_come_again() {
        let queue = queue(Settings::default());
        let publish = async |id: &str| queue.publish(&submission(id, Lane::Normal)).await.unwrap();
        let (waits, runs) = (publish("a").await, publish("b").await);
        let mut waiter = queue.0.waiters.register(&waits.id);
        waiter.only_from(waits.sequence);
        let Some(TerminationOutcome::Terminated(record)) =
            queue.terminate(&waits, &cancelled()).await.unwrap()
        else {
            panic!("it was not there");
        };
        assert_eq!((record.outcome, record.job_sequence), (Outcome::Cancelled, 1));
        let again = queue.terminate(&waits, &cancelled()).await.unwrap();
        assert_eq!(again, Some(TerminationOutcome::AlreadyFinished(record)));

        // The one that is left is taken, and its worker is told.
        let taken = queue.next().await;
        assert_eq!(taken.sequence, 2);
        assert!(matches!(
            queue.terminate(&runs, &cancelled()).await.unwrap(),
            Some(TerminationOutcome::Terminated(_))
        ));
        assert!(taken.cancelled.is_cancelled());
        // Whatever the worker says then comes too late.
        queue.done(2, &result("b", 2));
        let stored = queue
            .result(&runs.id, ReadConsistency::Any)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.outcome, Outcome::Cancelled);

        let second = publish("b").await;
        assert_eq!(second.sequence, Some(3));
        queue.done(3, &result("b", 3));
        let stored = queue
            .result(&second.id, ReadConsistency::Any)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((stored.outcome, stored.job_sequence), (Outcome::Succeeded, 3));
        let of_the_first = queue.terminate(&runs, &cancelled()).await.unwrap();
        assert!(matches!(
            of_the_first,
            Some(TerminationOutcome::AlreadyFinished(_))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn results_are_kept_for_a_while_and_without_their_texts() {
        let queue = queue(Settings {
            max_results: 2,
            result_ttl_seconds: 60,
            ..Settings::default()
        });
        let has = async |id: &str| {
            let id = id.parse().unwrap();
            queue.result(&id, ReadConsistency::Any).await.unwrap()
        };
        for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
            queue.publish(&submission(id, Lane::Normal)).await.unwrap();
            queue.done(sequence, &result(id, sequence));
        }
        assert_eq!(has("a").await, None);
        let kept = has("b").await.unwrap();
        assert_eq!((kept.summary.is_some(), kept.text.as_str()), (true, ""));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(has("c").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_quiet_hears_of_the_last_end() {
        let queue = queue(Settings::default());
        queue.idle().await;
        let first = queue.publish(&submission("a", Lane::Normal)).await.unwrap();
        queue.publish(&submission("b", Lane::Normal)).await.unwrap();
        let quiet = CancellationToken::new();
        let (waits, told) = (queue.clone(), quiet.clone());
        tokio::spawn(async move {
            waits.idle().await;
            told.cancel();
        });
        queue.done(2, &result("b", 2));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!quiet.is_cancelled());
        queue.terminate(&first, &cancelled()).await.unwrap();
        quiet.cancelled().await;
    }
}
