//! All that the gateway asks of the queue: a trait, so that everything else can be tested without a
//! server, and its implementation on NATS. The other one, in memory, is [`local`](crate::local).

mod batches;
mod depth;
pub(crate) mod depth_cache;
mod link;
mod records;
mod termination;

use std::time::Duration;

use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use precis_producer::{Producer, ResultError, Results, Submission};
use precis_runtime::admin::Readiness;
use precis_runtime::boot;
use precis_runtime::topology;
use precis_runtime::trace_context::TraceContext;
use precis_runtime::webhooks;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::reference::LateReference;
use precis_schemas::termination::Termination;
use precis_schemas::topology::{BATCHES, CALLS, JOBS, RESULTS};
use precis_schemas::{Job, JobHandle, JobId, JobResult, JobSubject, Token};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::queue::depth_cache::Depth;

pub(crate) use batches::JobEnd;
use link::Link;
pub(crate) use records::{Created, Record};

/// How long a question to NATS may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the connection is looked at for `/readyz`.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// A job that stands in the queue: not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueuedJob {
    /// Its id.
    pub(crate) id: JobId,
    /// Where it goes.
    pub(crate) subject: JobSubject,
    /// When the queue took it.
    pub(crate) submitted_at: Option<jiff::Timestamp>,
    /// When it is given up.
    pub(crate) deadline: Option<jiff::Timestamp>,
}

/// What a job's message says of itself, if it is one: only these fields are read.
#[derive(Debug, Default, Deserialize)]
struct Facts {
    id: Option<JobId>,
    #[serde(default)]
    deadline: Option<jiff::Timestamp>,
}

/// What became of a job that was to be ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TerminationOutcome {
    /// It ended now, with this record.
    Terminated(Box<JobResult>),
    /// It had ended before.
    AlreadyFinished(Box<JobResult>),
}

/// Which copy of the results is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadConsistency {
    /// Any: fast, and perhaps a moment behind.
    Any,
    /// The leader's: what was stored before is seen.
    Leader,
}

/// What the gateway asks of the queue. Every error is one that a client can be told.
pub(crate) trait QueueBackend: Send + Sync {
    /// Publishes a job under a message id: the same one again, within two minutes, is the same message.
    fn publish_as<'a>(
        &'a self,
        submission: &'a Submission,
        message_id: &'a str,
    ) -> BoxFuture<'a, Result<JobHandle, Refusal>>;
    /// Stores a reference that came after its job.
    fn publish_reference<'a>(
        &'a self,
        reference: &'a LateReference,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), Refusal>>;
    /// The result of a job, if there is one.
    fn result<'a>(
        &'a self,
        id: &'a JobId,
        copy: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobResult>, Refusal>>;
    /// The job that stands in the queue at a sequence, if there is one.
    fn standing(&self, sequence: u64) -> BoxFuture<'_, Result<Option<QueuedJob>, Refusal>>;
    /// How many jobs of a tenant wait or run.
    fn waiting_of<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>>;
    /// How a job ended, if it has: less to read than its result.
    fn end_of<'a>(
        &'a self,
        id: &'a JobId,
        copy: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobEnd>, Refusal>>;
    /// What is kept of a batch on a subject.
    fn batch_record(&self, subject: String) -> BoxFuture<'_, Result<Option<Bytes>, Refusal>>;
    /// Keeps something of a batch on a subject, in the place of what was there.
    fn keep_batch_record(&self, subject: String, body: Bytes) -> BoxFuture<'_, Result<(), Refusal>>;
    /// Announces that something is to be posted.
    fn announce<'a>(&'a self, announcement: &'a Announcement) -> BoxFuture<'a, Result<(), Refusal>>;
    /// How much waits before each group of workers.
    fn depth(&self) -> BoxFuture<'_, Result<Depth, Refusal>>;
    /// Ends the job that stands at the handle's sequence, if there is one with its id: its record is stored unless it
    /// has one, and then it is taken off the queue.
    fn end<'a>(
        &'a self,
        handle: &'a JobHandle,
        termination: &'a Termination,
    ) -> BoxFuture<'a, Result<Option<TerminationOutcome>, Refusal>>;
    /// Tells the worker that may have a job that nobody wants it any more. Returns at once.
    fn nudge(&self, cancel: Cancel);
    /// Stores a record under a name unless there is one, which is then returned.
    fn create_record<'a>(&'a self, name: &'a Token, body: Bytes) -> BoxFuture<'a, Result<Created, Refusal>>;
    /// Stores `body` in the place of the record at `revision`, and says where it stands; none when another is there by now.
    fn update_record<'a>(
        &'a self,
        name: &'a Token,
        revision: u64,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, Refusal>>;
    /// The record of this name.
    fn record<'a>(&'a self, name: &'a Token) -> BoxFuture<'a, Result<Option<Record>, Refusal>>;
    /// Removes the record at `revision`.
    fn remove_record(&self, revision: u64) -> BoxFuture<'_, Result<(), Refusal>>;
    /// Whether jobs go on when this process ends.
    fn outlives_the_process(&self) -> bool {
        true
    }
    /// Refuses `what`, which makes sense only where jobs and results outlive this process.
    fn must_be_durable(&self, what: &str) -> Result<(), Refusal> {
        let _ = what;
        Ok(())
    }
}

/// The queue on NATS. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct NatsQueue {
    connection: boot::NatsConnection,
    link: Link,
    producer: Producer,
    results: Results,
    jobs_stream: Stream,
    results_stream: Stream,
    calls_stream: Stream,
    batches_stream: Stream,
}

impl NatsQueue {
    /// Opens the streams on a connection.
    pub(crate) async fn open(connection: boot::NatsConnection) -> Result<Self, ResultError> {
        let jetstream = &connection.jetstream;
        Ok(Self {
            link: Link::of(&connection.client),
            producer: Producer::new(jetstream.clone()),
            results: Results::open(jetstream).await?,
            jobs_stream: topology::stream(jetstream, JOBS).await?,
            results_stream: topology::stream(jetstream, RESULTS).await?,
            calls_stream: topology::stream(jetstream, CALLS).await?,
            batches_stream: topology::stream(jetstream, BATCHES).await?,
            connection,
        })
    }

    /// Asks about what is there already: when there is a connection, or there is one soon, and not for ever.
    async fn ask<T>(&self, question: impl Future<Output = Result<T, Refusal>> + Send) -> Result<T, Refusal> {
        self.link.soon().await?;
        in_time(question).await
    }

    /// Asks on the way of new work, which is refused at once when there is no connection: its client can come back, and
    /// nothing is lost.
    async fn ask_now<T>(
        &self,
        question: impl Future<Output = Result<T, Refusal>> + Send,
    ) -> Result<T, Refusal> {
        self.link.now()?;
        in_time(question).await
    }

    async fn standing_at(&self, sequence: u64) -> Result<Option<QueuedJob>, Refusal> {
        let message = match self.jobs_stream.get_raw_message(sequence).await {
            Ok(message) => message,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) => return Err(trouble("reading a job", &error)),
        };
        // The id in the body counts: `Nats-Msg-Id` may be another one, for an id that is submitted again.
        let facts: Facts = serde_json::from_slice(&message.payload).unwrap_or_default();
        let id = facts.id.or_else(|| Job::salvage_id(&message.payload));
        let (Some(id), Ok(subject)) = (id, message.subject.as_str().parse()) else {
            return Ok(None);
        };
        let submitted_at = jiff::Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok();
        Ok(Some(QueuedJob {
            id,
            subject,
            submitted_at: submitted_at.map(precis_schemas::time::to_millis),
            deadline: facts.deadline,
        }))
    }
}

impl QueueBackend for NatsQueue {
    fn publish_as<'a>(
        &'a self,
        submission: &'a Submission,
        message_id: &'a str,
    ) -> BoxFuture<'a, Result<JobHandle, Refusal>> {
        async move {
            self.link.now()?;
            match self.producer.publish_as(submission, message_id).await {
                Ok(accepted) => Ok(accepted.handle),
                Err(error) => {
                    let refusal = Refusal::from(&error);
                    tracing::warn!(error = %error, code = %refusal.code, "a job was not accepted");
                    Err(match refusal.code {
                        ErrorCode::QueueUnavailable => unavailable(),
                        ErrorCode::Internal => hidden(),
                        _ => refusal,
                    })
                }
            }
        }
        .boxed()
    }

    fn publish_reference<'a>(
        &'a self,
        reference: &'a LateReference,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.ask_now(self.producer.publish_reference(reference, trace).map(|stored| {
            stored.map_err(|error| {
                let refusal = Refusal::from(&error);
                tracing::warn!(%error, code = %refusal.code, "a reference was not accepted");
                match refusal.code {
                    ErrorCode::QueueUnavailable => unavailable(),
                    ErrorCode::Internal => hidden(),
                    _ => refusal,
                }
            })
        }))
        .boxed()
    }

    fn result<'a>(
        &'a self,
        id: &'a JobId,
        copy: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobResult>, Refusal>> {
        self.ask(async move {
            let stored = match copy {
                ReadConsistency::Any => self.results.get(id).await,
                ReadConsistency::Leader => self.results.get_from_leader(id).await,
            };
            match stored {
                Ok(stored) => Ok(stored.map(|stored| stored.result)),
                Err(ResultError::Decode { id, source }) => Err(unreadable(&id, &source)),
                Err(error) => Err(trouble("reading a result", &error)),
            }
        })
        .boxed()
    }

    fn standing(&self, sequence: u64) -> BoxFuture<'_, Result<Option<QueuedJob>, Refusal>> {
        self.ask(self.standing_at(sequence)).boxed()
    }

    fn waiting_of<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>> {
        self.ask_now(self.count_of(tenant)).boxed()
    }

    fn end_of<'a>(
        &'a self,
        id: &'a JobId,
        copy: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobEnd>, Refusal>> {
        self.ask(self.read_end(id, copy)).boxed()
    }

    fn batch_record(&self, subject: String) -> BoxFuture<'_, Result<Option<Bytes>, Refusal>> {
        self.ask(async move { self.read_batch_record(&subject).await })
            .boxed()
    }

    fn keep_batch_record(&self, subject: String, body: Bytes) -> BoxFuture<'_, Result<(), Refusal>> {
        self.ask(self.write_batch_record(subject, body)).boxed()
    }

    fn announce<'a>(&'a self, announcement: &'a Announcement) -> BoxFuture<'a, Result<(), Refusal>> {
        let announced = webhooks::announce(&self.connection.jetstream, announcement);
        self.ask(announced.map_err(|error| trouble("announcing a webhook", &error)))
            .boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, Refusal>> {
        self.ask_now(self.read_depth()).boxed()
    }

    fn end<'a>(
        &'a self,
        handle: &'a JobHandle,
        termination: &'a Termination,
    ) -> BoxFuture<'a, Result<Option<TerminationOutcome>, Refusal>> {
        self.ask(self.end_now(handle, termination)).boxed()
    }

    fn nudge(&self, cancel: Cancel) {
        tokio::spawn(termination::nudge(self.connection.client.clone(), cancel));
    }

    fn create_record<'a>(&'a self, name: &'a Token, body: Bytes) -> BoxFuture<'a, Result<Created, Refusal>> {
        self.ask_now(self.create(name, body)).boxed()
    }

    fn update_record<'a>(
        &'a self,
        name: &'a Token,
        revision: u64,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, Refusal>> {
        self.ask(self.store(name, revision, body)).boxed()
    }

    fn record<'a>(&'a self, name: &'a Token) -> BoxFuture<'a, Result<Option<Record>, Refusal>> {
        self.ask_now(self.read_record(name)).boxed()
    }

    fn remove_record(&self, revision: u64) -> BoxFuture<'_, Result<(), Refusal>> {
        self.ask(self.remove(revision)).boxed()
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, Refusal>> + Send) -> Result<T, Refusal> {
    tokio::time::timeout(ANSWER_TIMEOUT, question)
        .await
        .unwrap_or_else(|_| Err(unavailable()))
}

fn unavailable() -> Refusal {
    Refusal::new(
        ErrorCode::QueueUnavailable,
        "the queue can't be reached at the moment",
    )
}

fn hidden() -> Refusal {
    Refusal::new(
        ErrorCode::Internal,
        "something went wrong inside; the logs have the details under this request id",
    )
}

/// An error of NATS goes to the log; a client needs to know only that it may try again.
fn trouble(what: &str, error: &dyn std::error::Error) -> Refusal {
    tracing::warn!(%error, "{what}");
    unavailable()
}

fn unreadable(id: &JobId, error: &serde_json::Error) -> Refusal {
    tracing::error!(job = %id, %error, "a result can't be read");
    hidden()
}

/// Says in `readiness` whether NATS and the streams are there, until `stop`.
pub(crate) async fn watch(queue: NatsQueue, readiness: Readiness, stop: CancellationToken) {
    /// Looks at the connection between two looks at the streams.
    const LOOKS: u32 = 10;
    let mut streams_are_there = false;
    let mut looks = 0;
    let mut tick = tokio::time::interval(WATCH_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        if !queue.link.is_up() {
            streams_are_there = false;
        } else if looks == 0 || !streams_are_there {
            let infos = futures::future::join(queue.jobs_stream.get_info(), queue.results_stream.get_info());
            let found = tokio::time::timeout(ANSWER_TIMEOUT, infos).await;
            streams_are_there = matches!(found, Ok((Ok(_), Ok(_))));
        }
        looks = (looks + 1) % LOOKS;
        readiness.set(streams_are_there);
    }
    readiness.set(false);
}
