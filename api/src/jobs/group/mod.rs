//! Groups: the jobs of one request, of which the queue accepts all or none.

use futures::future::join_all;
use jiff::Timestamp;
use precis_producer::{Accepted, Submission};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::JobView;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, JobId, JobResult, JobSubject, Outcome};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::lookup;
use crate::jobs::submit::{self, JobRequest};
use crate::jobs::view;
use crate::queue::ReadConsistency;
use crate::watch::wait::Waiter;

/// Checks that the list `field` of a request has 1 to `max` items.
///
/// # Errors
/// [`ErrorCode::InvalidParameter`] if it has none or too many.
pub(crate) fn check_count(field: &str, given: usize, max: usize) -> Result<(), ApiError> {
    if (1..=max).contains(&given) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::InvalidParameter,
        format!("there are {given} {field}; 1 to {max} are allowed in one call"),
    ))
}

/// Validates every request of the list `field` and turns it into a submission.
///
/// # Errors
/// The first refusal, prefixed with its position in `field`.
pub(crate) async fn prepare(
    state: &AppState,
    caller: &Caller,
    field: &str,
    requests: impl Iterator<Item = JobRequest>,
    trace: &TraceContext,
) -> Result<Vec<Submission>, ApiError> {
    let mut submissions = Vec::new();
    for (index, request) in requests.enumerate() {
        let submission = submit::prepare(state, caller, request, trace)
            .await
            .map_err(|refusal| ApiError::from(refusal).at(&format!("{field}[{index}]")))?;
        submissions.push(submission);
    }
    Ok(submissions)
}

/// A group that is ready to publish. Its jobs are watched already: a fast worker may finish a job before the queue's
/// acknowledgement arrives.
#[derive(Debug)]
pub(crate) struct JobGroup {
    jobs: Vec<PendingJob>,
    /// Whether another request may submit jobs with the same ids.
    shares_ids: bool,
}

#[derive(Debug)]
struct PendingJob {
    submission: Submission,
    waiter: Waiter,
    /// The result of an earlier job with the same id.
    result: Option<JobResult>,
    /// The sequence of an earlier job with the same id that was cancelled.
    replaces: Option<u64>,
}

/// Why the queue refused a group.
#[derive(Debug)]
pub(crate) struct GroupRefusal {
    /// Position in the group of the job that was refused.
    pub(crate) index: usize,
    /// The reason.
    pub(crate) refusal: Refusal,
}

/// A group of which the queue refused at least one job.
#[derive(Debug)]
pub(crate) struct PartialGroup {
    /// Why it was refused.
    pub(crate) refused: GroupRefusal,
    /// The jobs that the queue accepted. The receiver of this error must [`cancel`] them.
    pub(crate) accepted: Vec<JobHandle>,
}

impl JobGroup {
    /// Starts to watch the jobs of `submissions`.
    pub(crate) fn new(state: &AppState, submissions: Vec<Submission>) -> Self {
        let jobs = submissions.into_iter().map(|submission| PendingJob {
            waiter: state.waiters().register(&submission.job.id),
            submission,
            result: None,
            replaces: None,
        });
        Self {
            jobs: jobs.collect(),
            shares_ids: false,
        }
    }

    /// Looks up results under the ids of the group, which a repeated request has too. [`submit`](Self::submit) doesn't
    /// publish a job that has one, unless it was cancelled: the new job then replaces it.
    ///
    /// # Errors
    /// If the queue can't be reached.
    pub(crate) async fn find_results(&mut self, state: &AppState) -> Result<(), GroupRefusal> {
        self.shares_ids = true;
        let ids = self.jobs.iter().map(|job| &job.submission.job.id);
        let results = join_all(ids.map(|id| state.queue().result(id, ReadConsistency::Any))).await;
        for (index, (job, result)) in self.jobs.iter_mut().zip(results).enumerate() {
            let result = result.map_err(|refusal| GroupRefusal { index, refusal })?;
            match result {
                Some(result) if result.outcome == Outcome::Cancelled => {
                    job.replaces = Some(result.job_sequence);
                }
                result => job.result = result,
            }
        }
        Ok(())
    }

    /// Publishes every job. If the queue refuses one, cancels those that it accepted, but not those of another request
    /// with the same ids. Runs to completion even if the caller's future is dropped.
    ///
    /// # Errors
    /// If the queue refuses a job or can't be reached.
    pub(crate) async fn submit(self, state: &AppState) -> Result<SubmittedGroup, GroupRefusal> {
        let state = state.clone();
        let is_single = self.jobs.len() == 1;
        let publish_or_cancel = async move {
            match self.publish(&state, JobId::to_string).await {
                Ok(group) => Ok(group),
                Err(PartialGroup { refused, accepted }) => {
                    cancel(&state, &accepted).await;
                    Err(refused)
                }
            }
        };
        if is_single {
            // A single job leaves nothing to cancel.
            return publish_or_cancel.await;
        }
        let task = tokio::spawn(publish_or_cancel.in_current_span());
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a group can't be submitted");
            let refusal = ApiError::internal("a submission").refusal();
            Err(GroupRefusal { index: 0, refusal })
        })
    }

    /// Publishes every job that has no result. `message_id` returns the message id for a job id.
    ///
    /// # Errors
    /// If the queue refuses a job or can't be reached. The caller must cancel the accepted jobs.
    pub(super) async fn publish(
        self,
        state: &AppState,
        message_id: impl Fn(&JobId) -> String,
    ) -> Result<SubmittedGroup, PartialGroup> {
        let publish = async |job: &PendingJob| match &job.result {
            Some(result) => Ok(Accepted {
                handle: view::handle_of(result),
                duplicate: true,
            }),
            None => {
                let id = &job.submission.job.id;
                let message_id = match job.replaces {
                    // The stream would drop the id of the cancelled job's message as a duplicate.
                    Some(sequence) => format!("{id}.{sequence}"),
                    None => message_id(id),
                };
                submit::publish_as(state, &job.submission, &message_id).await
            }
        };
        let published = join_all(self.jobs.iter().map(publish)).await;
        let mut handles = Vec::with_capacity(published.len());
        let mut accepted = Vec::new();
        let mut refused: Option<GroupRefusal> = None;
        for (index, (job, outcome)) in self.jobs.iter().zip(published).enumerate() {
            match outcome {
                Ok(Accepted { handle, duplicate }) => {
                    if job.result.is_none() && !(self.shares_ids && duplicate) {
                        accepted.push(handle.clone());
                    }
                    handles.push(handle);
                }
                // `queue_unavailable` takes precedence: only then is it uncertain what the queue has accepted.
                Err(refusal)
                    if refused.as_ref().is_none_or(|first| {
                        first.refusal.code != ErrorCode::QueueUnavailable
                            && refusal.code == ErrorCode::QueueUnavailable
                    }) =>
                {
                    refused = Some(GroupRefusal { index, refusal });
                }
                Err(_) => {}
            }
        }
        if let Some(refused) = refused {
            return Err(PartialGroup { refused, accepted });
        }
        let jobs = self.jobs.into_iter().zip(handles);
        Ok(SubmittedGroup {
            jobs: jobs.map(|(job, handle)| SubmittedJob::new(job, handle)).collect(),
        })
    }
}

/// A group that the queue accepted.
#[derive(Debug)]
pub(crate) struct SubmittedGroup {
    jobs: Vec<SubmittedJob>,
}

impl SubmittedGroup {
    /// The handles, in the order of the request.
    pub(crate) fn handles(&self) -> Vec<JobHandle> {
        self.jobs.iter().map(|job| job.handle.clone()).collect()
    }

    /// The batch that the jobs belong to, if any.
    pub(crate) fn batch(&self) -> Option<JobId> {
        self.jobs.first()?.batch.clone()
    }

    /// The jobs, in the order of the request.
    pub(crate) fn into_jobs(self) -> Vec<SubmittedJob> {
        self.jobs
    }

    /// Waits for all results, at most until `until`. `None` stands for a job that has not ended by then.
    pub(crate) async fn results(&mut self, state: &AppState, until: Instant) -> Vec<Option<JobResult>> {
        join_all(self.jobs.iter_mut().map(|job| job.result(state, until))).await
    }

    /// Waits until all jobs have ended, at most until `until`, and returns them as REST shows them.
    pub(crate) async fn views(self, state: &AppState, caller: &Caller, until: Instant) -> Vec<JobView> {
        join_all(self.jobs.into_iter().map(|job| job.view(state, caller, until))).await
    }
}

/// A job of a group that the queue accepted.
#[derive(Debug)]
pub(crate) struct SubmittedJob {
    /// Its id and position in the queue.
    pub(crate) handle: JobHandle,
    batch: Option<JobId>,
    subject: JobSubject,
    deadline: Option<Timestamp>,
    waiter: Waiter,
    result: Option<JobResult>,
}

impl SubmittedJob {
    fn new(pending: PendingJob, handle: JobHandle) -> Self {
        let Submission { subject, job, .. } = pending.submission;
        let mut waiter = pending.waiter;
        waiter.set_sequence(handle.sequence);
        Self {
            handle,
            batch: job.batch.map(|batch| batch.id),
            subject,
            deadline: job.deadline,
            waiter,
            result: pending.result,
        }
    }

    /// Waits for the result, at most until `until`. Returns `None` if there is none by then or the process stops.
    pub(crate) async fn result(&mut self, state: &AppState, until: Instant) -> Option<JobResult> {
        match self.result.take() {
            Some(result) => Some(result),
            None => self.waiter.result(state.queue(), state.stop(), until).await,
        }
    }

    async fn view(mut self, state: &AppState, caller: &Caller, until: Instant) -> JobView {
        let ended = if let Some(result) = self.result {
            Some(view::ended(result))
        } else if Instant::now() < until {
            lookup::ended_by(
                state,
                caller,
                &mut self.waiter,
                &self.handle,
                self.deadline,
                until,
            )
            .await
        } else {
            None
        };
        match ended {
            Some(view) => view,
            None => lookup::accepted(state, &self.handle, &self.subject).await,
        }
    }
}

/// Cancels the jobs that the queue accepted of a refused group. A job that has ended already keeps its result.
pub(super) async fn cancel(state: &AppState, handles: &[JobHandle]) {
    join_all(handles.iter().map(|handle| cancel_job(state, handle))).await;
}

async fn cancel_job(state: &AppState, handle: &JobHandle) {
    let termination = Termination {
        outcome: Outcome::Cancelled,
        reason: Refusal::new(
            ErrorCode::Cancelled,
            "the queue did not accept every job of the request",
        ),
        attempts: 0,
    };
    if let Err(refusal) = submit::terminate(state, handle, termination).await {
        tracing::warn!(job = %handle, %refusal, "job of a refused request could not be cancelled; it will run");
    }
}

#[cfg(test)]
mod tests;
