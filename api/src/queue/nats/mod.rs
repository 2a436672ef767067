//! The queue on NATS JetStream.

mod batches;
mod connectivity;
mod dead_letters;
mod depth;
mod monitors;
mod queued_jobs;
mod readiness;
mod records;
mod termination;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use precis_producer::{Accepted, Producer, PublishError, ResultError, Results, Submission};
use precis_runtime::boot;
use precis_runtime::nats::classify;
use precis_runtime::topology;
use precis_runtime::trace_context::TraceContext;
use precis_runtime::webhooks;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::monitor_request::MonitorRequest;
use precis_schemas::reference::LateReference;
use precis_schemas::rest_operations::{StoredDeadLetter, WebhookBacklog};
use precis_schemas::termination::Termination;
use precis_schemas::topology::{BATCHES, CALLS, DEAD, JOBS, RESULTS};
use precis_schemas::worker_consumers::TenantLane;
use precis_schemas::{JobHandle, JobId, JobResult, Lane, Token};

use self::connectivity::{Connectivity, unavailable};
use self::queued_jobs::QueuedJobs;
pub(crate) use self::readiness::watch_readiness;
use super::{
    CreateOutcome, DeadLetterPage, JobEnd, JobFilter, ListedJob, QueueBackend, QueueDepth, QueueUsage,
    QueuedJob, ReadConsistency, Record, TenantDepth, TerminationOutcome,
};

/// How long a request to NATS may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The queue on NATS JetStream. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct NatsQueue {
    connection: boot::NatsConnection,
    connectivity: Connectivity,
    producer: Producer,
    results: Results,
    jobs_stream: Stream,
    results_stream: Stream,
    calls_stream: Stream,
    batches_stream: Stream,
    queued_jobs: Arc<QueuedJobs>,
    dead_stream: Stream,
}

impl NatsQueue {
    /// Opens the streams on a connection.
    pub(crate) async fn open(connection: boot::NatsConnection) -> Result<Self, ResultError> {
        let jetstream = &connection.jetstream;
        Ok(Self {
            connectivity: Connectivity::of(&connection.client),
            producer: Producer::new(jetstream.clone()),
            results: Results::open(jetstream).await?,
            jobs_stream: topology::stream(jetstream, JOBS).await?,
            results_stream: topology::stream(jetstream, RESULTS).await?,
            calls_stream: topology::stream(jetstream, CALLS).await?,
            batches_stream: topology::stream(jetstream, BATCHES).await?,
            queued_jobs: Arc::default(),
            dead_stream: topology::stream(jetstream, DEAD).await?,
            connection,
        })
    }

    /// Runs a request about existing data. Waits a moment for a lost connection to come back.
    async fn when_connected<T>(
        &self,
        request: impl Future<Output = Result<T, Refusal>> + Send,
    ) -> Result<T, Refusal> {
        self.connectivity.wait_until_up().await?;
        with_timeout(request).await
    }

    /// Runs a request for new work. Refuses it at once while the connection is lost: the client can retry, and nothing
    /// is lost.
    async fn if_connected<T>(
        &self,
        request: impl Future<Output = Result<T, Refusal>> + Send,
    ) -> Result<T, Refusal> {
        self.connectivity.check()?;
        with_timeout(request).await
    }
}

impl QueueBackend for NatsQueue {
    fn publish_as<'a>(
        &'a self,
        submission: &'a Submission,
        message_id: &'a str,
    ) -> BoxFuture<'a, Result<Accepted, Refusal>> {
        async move {
            self.connectivity.check()?;
            let published = self.producer.publish_as(submission, message_id).await;
            published.map_err(|error| publish_failed("job", &error))
        }
        .boxed()
    }

    fn publish_reference<'a>(
        &'a self,
        reference: &'a LateReference,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        let published = self.producer.publish_reference(reference, trace);
        self.if_connected(published.map_err(|error| publish_failed("late reference", &error)))
            .boxed()
    }

    fn result<'a>(
        &'a self,
        id: &'a JobId,
        consistency: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobResult>, Refusal>> {
        self.when_connected(async move {
            let stored = match consistency {
                ReadConsistency::Any => self.results.get(id).await,
                ReadConsistency::Leader => self.results.get_from_leader(id).await,
            };
            match stored {
                Ok(stored) => Ok(stored.map(|stored| stored.result)),
                Err(ResultError::Decode { id, source }) => Err(unreadable_result(&id, &source)),
                Err(error) => Err(request_failed("reading a result", &error)),
            }
        })
        .boxed()
    }

    fn queued_job<'a>(
        &'a self,
        id: &'a JobId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<QueuedJob>, Refusal>> {
        self.when_connected(self.read_queued_job(id, sequence)).boxed()
    }

    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedJob>, Refusal>> {
        self.when_connected(self.read_jobs(filter, after, limit)).boxed()
    }

    fn count_jobs<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>> {
        self.if_connected(self.read_job_count(tenant)).boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Result<QueueUsage, Refusal>> {
        self.if_connected(self.read_usage()).boxed()
    }

    fn job_end<'a>(
        &'a self,
        id: &'a JobId,
        consistency: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobEnd>, Refusal>> {
        self.when_connected(self.read_job_end(id, consistency)).boxed()
    }

    fn batch_record(&self, subject: String) -> BoxFuture<'_, Result<Option<Bytes>, Refusal>> {
        self.when_connected(async move { self.read_batch_record(&subject).await })
            .boxed()
    }

    fn put_batch_record(&self, subject: String, body: Bytes) -> BoxFuture<'_, Result<(), Refusal>> {
        self.when_connected(self.write_batch_record(subject, body))
            .boxed()
    }

    fn announce<'a>(
        &'a self,
        announcement: &'a Announcement,
        message_id: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        let announced = webhooks::announce(&self.connection.jetstream, announcement, message_id);
        self.when_connected(announced.map_err(|error| announcement_failed(&error)))
            .boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<QueueDepth, Refusal>> {
        self.if_connected(self.read_depth()).boxed()
    }

    fn tenant_depth<'a>(
        &'a self,
        jobs: &'a TenantLane,
    ) -> BoxFuture<'a, Result<Option<TenantDepth>, Refusal>> {
        self.if_connected(self.read_tenant_depth(jobs)).boxed()
    }

    fn oldest_job<'a>(
        &'a self,
        model: &'a Token,
        lane: Lane,
    ) -> BoxFuture<'a, Result<Option<jiff::Timestamp>, Refusal>> {
        self.if_connected(self.read_oldest_job(model, lane)).boxed()
    }

    fn dead_letters(
        &self,
        before: Option<u64>,
        sequences: u64,
    ) -> BoxFuture<'_, Result<DeadLetterPage, Refusal>> {
        self.when_connected(self.read_dead_letters(before, sequences))
            .boxed()
    }

    fn dead_letter(&self, sequence: u64) -> BoxFuture<'_, Result<Option<StoredDeadLetter>, Refusal>> {
        self.when_connected(self.read_dead_letter(sequence)).boxed()
    }

    fn delete_dead_letter(&self, sequence: u64) -> BoxFuture<'_, Result<(), Refusal>> {
        self.when_connected(self.remove_dead_letter(sequence)).boxed()
    }

    fn webhook_backlog(&self) -> BoxFuture<'_, Result<WebhookBacklog, Refusal>> {
        self.if_connected(self.read_webhook_backlog()).boxed()
    }

    fn ask_monitor(&self, request: MonitorRequest) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        self.send_to_monitor(request).boxed()
    }

    fn terminate<'a>(
        &'a self,
        handle: &'a JobHandle,
        termination: &'a Termination,
    ) -> BoxFuture<'a, Result<Option<TerminationOutcome>, Refusal>> {
        self.when_connected(self.terminate_job(handle, termination))
            .boxed()
    }

    fn send_cancel(&self, cancel: Cancel) {
        tokio::spawn(termination::send_cancel(self.connection.client.clone(), cancel));
    }

    fn create_record<'a>(
        &'a self,
        name: &'a Token,
        body: Bytes,
    ) -> BoxFuture<'a, Result<CreateOutcome, Refusal>> {
        self.if_connected(self.create_call(name, body)).boxed()
    }

    fn update_record<'a>(
        &'a self,
        name: &'a Token,
        revision: u64,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, Refusal>> {
        self.when_connected(self.write_call(name, revision, body)).boxed()
    }

    fn record<'a>(&'a self, name: &'a Token) -> BoxFuture<'a, Result<Option<Record>, Refusal>> {
        self.if_connected(self.read_call(name)).boxed()
    }

    fn remove_record(&self, revision: u64) -> BoxFuture<'_, Result<(), Refusal>> {
        self.when_connected(self.delete_call(revision)).boxed()
    }
}

async fn with_timeout<T>(request: impl Future<Output = Result<T, Refusal>> + Send) -> Result<T, Refusal> {
    tokio::time::timeout(REQUEST_TIMEOUT, request)
        .await
        .unwrap_or_else(|_| Err(unavailable()))
}

fn internal() -> Refusal {
    Refusal::new(
        ErrorCode::Internal,
        "an internal error occurred; the logs have the details under this request id",
    )
}

/// Logs an error of NATS and returns the refusal for the client, who only needs to know that a retry may succeed.
fn request_failed(action: &str, error: &dyn std::error::Error) -> Refusal {
    tracing::warn!(%error, action, "NATS request failed");
    unavailable()
}

/// Returns the refusal of a request whose webhook can't be announced.
fn announcement_failed(error: &async_nats::jetstream::context::PublishError) -> Refusal {
    if classify(error).is_full() {
        return Refusal::new(
            ErrorCode::QuotaExceeded,
            "too many webhooks of this tenant wait for their receivers",
        );
    }
    request_failed("announcing a webhook", error)
}

/// Logs why a `kind` of message was not published and returns the refusal for the client.
fn publish_failed(kind: &str, error: &PublishError) -> Refusal {
    let refusal = Refusal::from(error);
    tracing::warn!(%error, code = %refusal.code, kind, "message was not published");
    match refusal.code {
        ErrorCode::QueueUnavailable => unavailable(),
        ErrorCode::Internal => internal(),
        _ => refusal,
    }
}

fn unreadable_result(id: &JobId, error: &serde_json::Error) -> Refusal {
    tracing::error!(job = %id, %error, "stored result cannot be parsed");
    internal()
}
