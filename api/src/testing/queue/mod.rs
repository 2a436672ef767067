//! A queue in memory for tests.

mod depth;
mod listing;
mod sizes;
mod termination;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use precis_producer::{Accepted, Submission};
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::reference::LateReference;
use precis_schemas::scores::Scores;
use precis_schemas::termination::Termination;
use precis_schemas::worker_consumers::TenantLane;
use precis_schemas::{JobHandle, JobId, JobResult, Outcome, Task, Token};

use crate::queue::{
    CreateOutcome, JobEnd, JobFilter, ListedJob, QueueBackend, QueuedJob, ReadConsistency, Record,
    TerminationOutcome,
};
use crate::queue::{QueueDepth, QueueUsage, TenantDepth};
use crate::testing::result;
use crate::watch::job_events::JobEvents;

/// A queue in memory. The model `default` has consumers. Jobs only end if [`has_worker`](Self::has_worker) is set.
#[derive(Default)]
pub(crate) struct FakeQueue {
    /// Accepted jobs. The first has sequence 1.
    pub(crate) jobs: Mutex<Vec<Submission>>,
    /// Sequences of the jobs that have left the queue.
    pub(crate) done: Mutex<Vec<u64>>,
    results: Mutex<HashMap<JobId, JobResult>>,
    /// Accepted late references.
    pub(crate) references: Mutex<Vec<LateReference>>,
    batches: Mutex<HashMap<String, Bytes>>,
    /// Published announcements.
    pub(crate) announcements: Mutex<Vec<Announcement>>,
    /// Sequences of accepted messages, by message id.
    messages: Mutex<HashMap<String, u64>>,
    /// Refuses jobs with this text, with this code.
    pub(crate) refuses_text: Mutex<Option<(ErrorCode, String)>>,
    /// Refuses every request with this code.
    pub(crate) refuses: Mutex<Option<ErrorCode>>,
    /// Refuses to read batch records.
    pub(crate) hides_batches: AtomicBool,
    /// Ends jobs at once: with their text in capitals, or as failed for the text `fail`.
    pub(crate) has_worker: AtomicBool,
    pub(super) events: OnceLock<JobEvents>,
    /// How full the queue claims to be.
    pub(crate) usage: Mutex<QueueUsage>,
    /// How long a terminated job stays in the queue after its record is stored.
    pub(crate) removal_delay: Mutex<Duration>,
    /// The number of calls of `job_end`.
    pub(crate) job_end_reads: AtomicU64,
    /// Cancel messages for workers.
    pub(crate) sent_cancels: Mutex<Vec<Cancel>>,
    records: Mutex<HashMap<Token, Record>>,
    revisions: AtomicU64,
}

impl FakeQueue {
    /// Stores a result and reports it to the waiters.
    pub(crate) fn store(&self, result: JobResult) {
        let id = result.id.clone();
        let body = {
            let mut results = self.results.lock().unwrap();
            let sequence = result.job_sequence;
            results.entry(id.clone()).and_modify(|earlier| {
                if earlier.is_superseded_by(sequence) {
                    *earlier = result.clone();
                }
            });
            serde_json::to_vec(results.entry(id.clone()).or_insert(result)).unwrap()
        };
        if let Some(events) = self.events.get() {
            events.finished(&id, body.into());
        }
    }

    /// Stores a result after a delay, without reporting it.
    pub(crate) fn store_after(self: Arc<Self>, delay: Duration, result: JobResult) {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            self.results.lock().unwrap().insert(result.id.clone(), result);
        });
    }

    fn refusal(&self) -> Result<(), Refusal> {
        match *self.refuses.lock().unwrap() {
            Some(code) => Err(Refusal::new(code, "refused by the test")),
            None => Ok(()),
        }
    }
}

impl QueueBackend for FakeQueue {
    fn publish_as<'a>(
        &'a self,
        submission: &'a Submission,
        message_id: &'a str,
    ) -> BoxFuture<'a, Result<Accepted, Refusal>> {
        async move {
            self.refusal()?;
            let job = &submission.job;
            if let Some((code, _)) = self
                .refuses_text
                .lock()
                .unwrap()
                .as_ref()
                .filter(|(_, text)| *text == job.text)
            {
                return Err(Refusal::new(*code, "refused by the test"));
            }
            let known = self.messages.lock().unwrap().get(message_id).copied();
            let accepted = |sequence, duplicate| Accepted {
                handle: JobHandle {
                    id: job.id.clone(),
                    sequence: Some(sequence),
                },
                duplicate,
            };
            if let Some(sequence) = known {
                return Ok(accepted(sequence, true));
            }
            let sequence = {
                let mut jobs = self.jobs.lock().unwrap();
                jobs.push(submission.clone());
                jobs.len() as u64
            };
            self.messages
                .lock()
                .unwrap()
                .insert(message_id.to_owned(), sequence);
            if self.has_worker.load(Ordering::Relaxed) {
                let failed = job.text == "fail";
                self.done.lock().unwrap().push(sequence);
                self.store(JobResult {
                    outcome: if failed {
                        Outcome::Failed
                    } else {
                        Outcome::Succeeded
                    },
                    summary: (!failed).then(|| job.text.to_uppercase()),
                    error: failed.then(|| Refusal::new(ErrorCode::InferenceFailed, "the model failed")),
                    params: job.params.clone(),
                    task: submission.subject.task,
                    reference: job.reference.clone(),
                    batch: job.batch.clone(),
                    metadata: job.metadata.clone(),
                    scores: (submission.subject.task == Task::Score && !failed).then(|| Scores {
                        bleu: 50.0,
                        stemmed: job.stemmed,
                        ..Scores::default()
                    }),
                    ..result(job.id.as_str(), sequence)
                });
            }
            Ok(accepted(sequence, false))
        }
        .boxed()
    }

    fn publish_reference<'a>(
        &'a self,
        reference: &'a LateReference,
        _: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            self.refusal()?;
            self.references.lock().unwrap().push(reference.clone());
            Ok(())
        }
        .boxed()
    }

    fn result<'a>(
        &'a self,
        id: &'a JobId,
        _: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobResult>, Refusal>> {
        async move {
            self.refusal()?;
            Ok(self.results.lock().unwrap().get(id).cloned())
        }
        .boxed()
    }

    fn queued_job<'a>(
        &'a self,
        id: &'a JobId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<QueuedJob>, Refusal>> {
        async move {
            self.refusal()?;
            if self.done.lock().unwrap().contains(&sequence) {
                return Ok(None);
            }
            let jobs = self.jobs.lock().unwrap();
            let index = usize::try_from(sequence).unwrap().checked_sub(1);
            let job = index.and_then(|index| jobs.get(index));
            let job = job.filter(|submission| submission.job.id == *id);
            Ok(job.map(|submission| QueuedJob {
                id: submission.job.id.clone(),
                subject: submission.subject.clone(),
                submitted_at: None,
                deadline: submission.job.deadline,
                metadata: submission.job.metadata.clone(),
            }))
        }
        .boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Result<QueueUsage, Refusal>> {
        future::ready(Ok(*self.usage.lock().unwrap())).boxed()
    }

    fn job_end<'a>(
        &'a self,
        id: &'a JobId,
        consistency: ReadConsistency,
    ) -> BoxFuture<'a, Result<Option<JobEnd>, Refusal>> {
        async move {
            self.job_end_reads.fetch_add(1, Ordering::Relaxed);
            let result = self.result(id, consistency).await?;
            Ok(result.map(|result| JobEnd {
                outcome: result.outcome,
                finished_at: result.finished_at,
            }))
        }
        .boxed()
    }

    fn batch_record(&self, subject: String) -> BoxFuture<'_, Result<Option<Bytes>, Refusal>> {
        async move {
            self.refusal()?;
            if self.hides_batches.load(Ordering::Relaxed) {
                return Err(Refusal::new(ErrorCode::QueueUnavailable, "refused by the test"));
            }
            Ok(self.batches.lock().unwrap().get(&subject).cloned())
        }
        .boxed()
    }

    fn put_batch_record(&self, subject: String, body: Bytes) -> BoxFuture<'_, Result<(), Refusal>> {
        async move {
            self.batches.lock().unwrap().insert(subject, body);
            Ok(())
        }
        .boxed()
    }

    fn announce<'a>(
        &'a self,
        announcement: &'a Announcement,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            self.refusal()?;
            self.announcements.lock().unwrap().push(announcement.clone());
            Ok(())
        }
        .boxed()
    }

    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedJob>, Refusal>> {
        future::ready(self.refusal().map(|()| self.listed(filter, after, limit))).boxed()
    }

    fn count_jobs<'a>(&'a self, tenant: &'a Token) -> BoxFuture<'a, Result<u64, Refusal>> {
        async move {
            self.refusal()?;
            let done = self.done.lock().unwrap();
            let jobs = self.jobs.lock().unwrap();
            let waits = |(index, submission): &(usize, &Submission)| {
                submission.subject.tenant == *tenant && !done.contains(&(*index as u64 + 1))
            };
            Ok(jobs.iter().enumerate().filter(waits).count() as u64)
        }
        .boxed()
    }

    fn terminate<'a>(
        &'a self,
        handle: &'a JobHandle,
        termination: &'a Termination,
    ) -> BoxFuture<'a, Result<Option<TerminationOutcome>, Refusal>> {
        self.end(handle, termination).boxed()
    }

    fn send_cancel(&self, cancel: Cancel) {
        self.sent_cancels.lock().unwrap().push(cancel);
    }

    fn create_record<'a>(
        &'a self,
        name: &'a Token,
        body: Bytes,
    ) -> BoxFuture<'a, Result<CreateOutcome, Refusal>> {
        async move {
            self.refusal()?;
            let mut records = self.records.lock().unwrap();
            if let Some(record) = records.get(name) {
                return Ok(CreateOutcome::Exists(record.clone()));
            }
            let revision = self.revisions.fetch_add(1, Ordering::Relaxed) + 1;
            let record = Record {
                body,
                revision,
                stored_at: clock::now(),
            };
            records.insert(name.clone(), record);
            Ok(CreateOutcome::Created(revision))
        }
        .boxed()
    }

    fn update_record<'a>(
        &'a self,
        name: &'a Token,
        revision: u64,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, Refusal>> {
        async move {
            let mut records = self.records.lock().unwrap();
            let Some(record) = records.get_mut(name).filter(|record| record.revision == revision) else {
                return Ok(None);
            };
            record.body = body;
            record.revision = self.revisions.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Some(record.revision))
        }
        .boxed()
    }

    fn record<'a>(&'a self, name: &'a Token) -> BoxFuture<'a, Result<Option<Record>, Refusal>> {
        async move {
            self.refusal()?;
            Ok(self.records.lock().unwrap().get(name).cloned())
        }
        .boxed()
    }

    fn remove_record(&self, revision: u64) -> BoxFuture<'_, Result<(), Refusal>> {
        async move {
            let mut records = self.records.lock().unwrap();
            records.retain(|_, record| record.revision != revision);
            Ok(())
        }
        .boxed()
    }

    fn depth(&self) -> BoxFuture<'_, Result<QueueDepth, Refusal>> {
        future::ready(self.read_depth()).boxed()
    }

    fn tenant_depth<'a>(
        &'a self,
        jobs: &'a TenantLane,
    ) -> BoxFuture<'a, Result<Option<TenantDepth>, Refusal>> {
        future::ready(self.read_tenant_depth(jobs)).boxed()
    }
}
