//! The queue behind the gateway: the trait [`QueueBackend`] and its types.
//!
//! [`NatsQueue`] implements it on NATS JetStream. The crate `precis-serverless` implements it in memory, and tests use
//! a fake.

pub(crate) mod counted;
pub(crate) mod depth;
pub(crate) mod depth_cache;
pub(crate) mod eta;
pub(crate) mod gauge;
pub(crate) mod lane_shares;
pub(crate) mod nats;
pub(crate) mod retention;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use precis_producer::{Accepted, Submission};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::monitor_request::MonitorRequest;
use precis_schemas::reference::LateReference;
use precis_schemas::rest_operations::{StoredDeadLetter, WebhookBacklog};
use precis_schemas::termination::Termination;
use precis_schemas::worker_consumers::TenantLane;
use precis_schemas::{JobHandle, JobId, JobResult, JobSubject, Lane, Outcome, Task, Token};
use serde::Deserialize;

pub use depth::{LaneDepth, QueueDepth, TenantDepth};
pub(crate) use nats::NatsQueue;

/// A job in the queue that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedJob {
    /// The job's id.
    pub id: JobId,
    /// The subject it was published to.
    pub subject: JobSubject,
    /// When the queue accepted it.
    pub submitted_at: Option<jiff::Timestamp>,
    /// When it expires.
    pub deadline: Option<jiff::Timestamp>,
    /// The publisher's notes.
    pub metadata: BTreeMap<String, String>,
}

/// How and when a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct JobEnd {
    /// How the job ended.
    pub outcome: Outcome,
    /// When the job ended.
    pub finished_at: jiff::Timestamp,
}

/// The effect of terminating a job.
#[derive(Debug, Clone, PartialEq)]
pub enum TerminationOutcome {
    /// The termination ended the job, with this record.
    Terminated(Box<JobResult>),
    /// The job had already ended, with this record.
    AlreadyFinished(Box<JobResult>),
}

/// Which jobs of the queue to list. A part that is `None` allows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// The served model.
    pub model: Option<Token>,
    /// The lane.
    pub lane: Option<Lane>,
    /// The task.
    pub task: Option<Task>,
    /// The tenant.
    pub tenant: Option<Token>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedJob {
    /// Its sequence in the queue.
    pub sequence: u64,
    /// The job.
    pub job: QueuedJob,
    /// Its text.
    pub text: String,
}

/// Which replica a read goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadConsistency {
    /// Any replica: fast, but possibly stale for a moment.
    Any,
    /// The leader: the read sees every earlier write.
    Leader,
}

/// Dead letters from a part of their stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// The dead letters, the latest first.
    pub letters: Vec<StoredDeadLetter>,
    /// The end of the next part, unless this one reaches the beginning of the stream.
    pub next: Option<u64>,
}

/// A stored record with its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The stored bytes.
    pub body: Bytes,
    /// The revision, which grows with every write.
    pub revision: u64,
    /// When this revision was stored.
    pub stored_at: jiff::Timestamp,
}

/// The effect of creating a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The record was created at this revision.
    Created(u64),
    /// The name was already taken by this record.
    Exists(Record),
}

/// How full the queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueUsage {
    /// The number of jobs that wait or run.
    pub jobs: u64,
    /// Their size, in bytes.
    pub bytes: u64,
}

/// The operations that the gateway needs from a queue. Every error may be shown to a client.
pub trait QueueBackend: Send + Sync {
    /// Publishes a job. Repeating a message id within two minutes publishes nothing new, and says so.
    ///
    /// With [`ErrorCode::QueueUnavailable`](precis_schemas::ErrorCode) it is uncertain whether the job is in the queue.
    /// Any other refusal means that it is not.
    fn publish_as<'a>(
        &'a self,
        submission: &'a Submission,
        message_id: &'a str,
    ) -> BoxFuture<'a, Result<Accepted, Refusal>>;

    /// Publishes a late reference.
    fn publish_reference<'a>(
        &'a self,
        reference: &'a LateReference,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Returns a job's result, if there is one.
    fn result<'a>(
        &'a self,
        id: &'a JobId,
        consistency: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobResult>, Refusal>>;

    /// Returns the job `id` at `sequence`, unless it has ended or another job has this sequence.
    fn queued_job<'a>(
        &'a self,
        id: &'a JobId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<QueuedJob>, Refusal>>;

    /// Returns the next `limit` jobs that wait or run and match, after this sequence, in order. The default has none.
    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedJob>, Refusal>> {
        let _ = (filter, after, limit);
        future::ready(Ok(Vec::new())).boxed()
    }

    /// Returns the number of a tenant's jobs that wait or run.
    fn count_jobs<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>>;

    /// Returns how full the queue is. A queue without room for lanes to share reports that it is empty.
    fn usage(&self) -> BoxFuture<'_, Result<QueueUsage, Refusal>> {
        Box::pin(std::future::ready(Ok(QueueUsage::default())))
    }

    /// Returns how a job ended, if it has. Parses less than [`result`](Self::result).
    fn job_end<'a>(
        &'a self,
        id: &'a JobId,
        consistency: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobEnd>, Refusal>>;

    /// Returns the latest batch record on `subject`.
    fn batch_record(&self, subject: String) -> BoxFuture<'_, Result<Option<Bytes>, Refusal>>;

    /// Stores a batch record on `subject` and replaces the previous one.
    fn put_batch_record(&self, subject: String, body: Bytes) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Publishes an announcement: a webhook is due. Repeated calls with the same `message_id` publish it once.
    fn announce<'a>(
        &'a self,
        announcement: &'a Announcement,
        message_id: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Returns the queue depth of every lane.
    fn depth(&self) -> BoxFuture<'_, Result<QueueDepth, Refusal>>;

    /// Returns the queue depth of one tenant's jobs in a lane, or `None` if no worker reads them.
    fn tenant_depth<'a>(
        &'a self,
        jobs: &'a TenantLane,
    ) -> BoxFuture<'a, Result<Option<TenantDepth>, Refusal>>;

    /// Returns when the oldest job in a lane was accepted. The default knows no jobs.
    fn oldest_job<'a>(
        &'a self,
        model: &'a Token,
        lane: Lane,
    ) -> BoxFuture<'a, Result<Option<jiff::Timestamp>, Refusal>> {
        let _ = (model, lane);
        future::ready(Ok(None)).boxed()
    }

    /// Returns the dead letters among `sequences` sequences of their stream that end before `before`, or at its end. The
    /// default has no dead letters.
    fn dead_letters(
        &self,
        before: Option<u64>,
        sequences: u64,
    ) -> BoxFuture<'_, Result<DeadLetterPage, Refusal>> {
        let _ = (before, sequences);
        future::ready(Ok(DeadLetterPage::default())).boxed()
    }

    /// Returns the dead letter at `sequence`, if there is one.
    fn dead_letter(&self, sequence: u64) -> BoxFuture<'_, Result<Option<StoredDeadLetter>, Refusal>> {
        let _ = sequence;
        future::ready(Ok(None)).boxed()
    }

    /// Deletes the dead letter at `sequence`, if there is one.
    fn delete_dead_letter(&self, sequence: u64) -> BoxFuture<'_, Result<(), Refusal>> {
        let _ = sequence;
        future::ready(Ok(())).boxed()
    }

    /// Returns how many webhooks are not delivered yet. The default has none.
    fn webhook_backlog(&self) -> BoxFuture<'_, Result<WebhookBacklog, Refusal>> {
        future::ready(Ok(WebhookBacklog::default())).boxed()
    }

    /// Sends a request to a monitor, and returns its reply: a [`MonitorReply`](precis_schemas::monitor_request::MonitorReply)
    /// in JSON. The default reaches no monitor.
    fn ask_monitor(&self, request: MonitorRequest) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        let _ = request;
        future::ready(Err(no_monitor())).boxed()
    }

    /// Terminates the job that the handle names: stores its record, unless it has one, and removes it from the queue.
    /// Returns `None` if the queue has no such job.
    fn terminate<'a>(
        &'a self,
        handle: &'a JobHandle,
        termination: &'a Termination,
    ) -> BoxFuture<'a, Result<Option<TerminationOutcome>, Refusal>>;

    /// Tells the worker that runs a job to stop. Returns at once.
    fn send_cancel(&self, cancel: Cancel);

    /// Creates a record, unless the name is taken.
    fn create_record<'a>(
        &'a self,
        name: &'a Token,
        body: Bytes,
    ) -> BoxFuture<'a, Result<CreateOutcome, Refusal>>;

    /// Replaces the record if it is still at `revision`. Returns the new revision, or `None` if it has changed.
    fn update_record<'a>(
        &'a self,
        name: &'a Token,
        revision: u64,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, Refusal>>;

    /// Returns the record of this name.
    fn record<'a>(&'a self, name: &'a Token) -> BoxFuture<'a, Result<Option<Record>, Refusal>>;

    /// Removes the record at `revision`.
    fn remove_record(&self, revision: u64) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Returns whether jobs survive the end of this process.
    fn is_durable(&self) -> bool {
        true
    }

    /// Refuses `feature` if jobs do not survive the end of this process.
    fn require_durable(&self, feature: &str) -> Result<(), Refusal> {
        let _ = feature;
        Ok(())
    }
}

/// The refusal if no monitor answers a request.
pub(crate) fn no_monitor() -> Refusal {
    Refusal::new(
        ErrorCode::AnalyticsUnavailable,
        "no monitor answers; start one, or try again later",
    )
}
