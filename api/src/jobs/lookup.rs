//! Looking up jobs: from their results, their place in the queue, and the workers' progress events.

use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::JobView;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, JobResult, JobSubject, Outcome};
use tokio::time::Instant;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::jobs::submit;
use crate::jobs::view;
use crate::queue::{QueuedJob, ReadConsistency, TerminationOutcome, eta};
use crate::watch::wait::Waiter;

/// A job as it is now.
#[derive(Debug, Clone)]
pub(crate) struct JobSnapshot {
    /// The job as REST shows it.
    pub(crate) view: JobView,
    /// When the job expires, if it has not ended and its deadline is known.
    pub(crate) deadline: Option<Timestamp>,
    /// The subject the job was published to, if it has not ended.
    pub(crate) subject: Option<JobSubject>,
}

impl JobSnapshot {
    /// A job that has ended.
    pub(crate) fn ended(result: JobResult) -> Self {
        Self::of(view::ended(result))
    }

    fn of(view: JobView) -> Self {
        Self {
            view,
            deadline: None,
            subject: None,
        }
    }
}

/// Time after the deadline in which a worker may still start a queued job. After it, a lookup expires the job.
const EXPIRY_GRACE: Duration = Duration::from_secs(1);

/// Returns when a lookup expires a queued job with this deadline.
pub(super) fn expires_at(deadline: Timestamp) -> Timestamp {
    // Clients choose deadlines, up to the last representable time.
    deadline.checked_add(EXPIRY_GRACE).unwrap_or(Timestamp::MAX)
}

/// Returns a job of the caller.
///
/// # Errors
/// [`ErrorCode::JobNotFound`], [`ErrorCode::JobGone`], or if the queue can't be reached.
pub(crate) async fn job(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<JobView, Refusal> {
    snapshot(state, caller, handle)
        .await
        .map(|snapshot| snapshot.view)
}

/// Returns a job of the caller with its deadline and subject.
///
/// # Errors
/// See [`job`].
pub(super) async fn snapshot(
    state: &AppState,
    caller: &Caller,
    handle: &JobHandle,
) -> Result<JobSnapshot, Refusal> {
    if let Some(result) = result_of(state, caller, handle, ReadConsistency::Any).await? {
        return Ok(JobSnapshot::ended(result));
    }
    let Some(sequence) = handle.sequence else {
        return match state.running().get(handle) {
            // Progress events carry no tenant, so only callers who may see every tenant get them.
            Some(progress) if caller.sees_all() => Ok(JobSnapshot::of(view::running(handle, &progress))),
            _ => Err(not_found(handle)),
        };
    };
    if let Some(queued) = state.queue().queued_job(&handle.id, sequence).await?
        && caller.may_see(&queued.subject.tenant)
    {
        return unfinished(state, handle, sequence, queued).await;
    }
    // The job may have ended meanwhile. A worker stores the result before it removes the job from the queue.
    if let Some(result) = result_of(state, caller, handle, ReadConsistency::Leader).await? {
        return Ok(JobSnapshot::ended(result));
    }
    let last = match state.depth().await?.last_sequence {
        last if sequence <= last => last,
        // The cached depth is up to a second old, and the job may be newer.
        _ => state.queue().depth().await?.last_sequence,
    };
    // A job of another tenant is reported as unknown, not as gone.
    let has_existed =
        sequence <= last && (caller.sees_all() || state.analytics().knows(&handle.id, caller.tenant()).await);
    if !has_existed {
        return Err(not_found(handle));
    }
    let retention = state.result_retention();
    Err(Refusal::new(
        ErrorCode::JobGone,
        format!(
            "job `{handle}` has left the queue and its result is no longer kept (results are kept for {retention}); \
             a message without a readable id is among the dead letters"
        ),
    ))
}

/// Returns the job's result if the caller may see it. Ignores the result of an earlier job with the same id that was
/// cancelled.
///
/// A job of another tenant behaves like one that doesn't exist, in response time too.
async fn result_of(
    state: &AppState,
    caller: &Caller,
    handle: &JobHandle,
    consistency: ReadConsistency,
) -> Result<Option<JobResult>, Refusal> {
    let result = state.queue().result(&handle.id, consistency).await?;
    let sequence = handle
        .sequence
        .or_else(|| state.running().get(handle)?.job_sequence);
    Ok(result.filter(|result| {
        caller.may_see(&result.tenant) && !sequence.is_some_and(|sequence| result.is_superseded_by(sequence))
    }))
}

/// Shows a job that is still in the queue. Expires it if its deadline has passed and no worker has started it.
async fn unfinished(
    state: &AppState,
    handle: &JobHandle,
    sequence: u64,
    queued: QueuedJob,
) -> Result<JobSnapshot, Refusal> {
    let deadline = queued.deadline;
    let view = match state.running().get(handle) {
        Some(progress) => view::running(handle, &progress),
        None => {
            if let Some(deadline) = deadline
                && clock::now() >= expires_at(deadline)
                && let Some(result) = expire(state, handle, deadline).await?
            {
                return Ok(JobSnapshot::ended(result));
            }
            waiting(state, handle, sequence, &queued.subject).await
        }
    };
    let view = JobView {
        submitted_at: queued.submitted_at,
        ..view
    };
    Ok(JobSnapshot {
        view,
        deadline,
        subject: Some(queued.subject),
    })
}

async fn expire(
    state: &AppState,
    handle: &JobHandle,
    deadline: Timestamp,
) -> Result<Option<JobResult>, Refusal> {
    let termination = Termination {
        outcome: Outcome::Expired,
        reason: Refusal::new(
            ErrorCode::DeadlineExceeded,
            format!("the deadline {deadline} passed before a worker started the job"),
        ),
        attempts: 0,
    };
    let outcome = submit::terminate(state, handle, termination).await?;
    Ok(outcome.map(|outcome| match outcome {
        TerminationOutcome::Terminated(result) | TerminationOutcome::AlreadyFinished(result) => *result,
    }))
}

/// Shows a queued job with its position and the time until its end, as far as they are known.
pub(super) async fn waiting(
    state: &AppState,
    handle: &JobHandle,
    sequence: u64,
    subject: &JobSubject,
) -> JobView {
    let (Ok(depth), Ok(Some(own))) = tokio::join!(state.depth(), state.tenant_depth(subject)) else {
        return view::queued(handle, None, None);
    };
    if !depth.serves(subject) {
        return view::queued(handle, None, None);
    }
    let estimate = eta::estimate(&depth, &own, state.workers(), subject, sequence);
    view::queued(handle, Some(own.position(sequence)), estimate)
}

/// The refusal of a job that doesn't exist or belongs to another tenant.
fn not_found(handle: &JobHandle) -> Refusal {
    let hint = match handle.sequence {
        Some(_) => "",
        None => {
            "; a queued job can't be found by its id alone: append a dot and the sequence from its publish \
             acknowledgement"
        }
    };
    Refusal::new(
        ErrorCode::JobNotFound,
        format!("there is no job `{handle}`{hint}"),
    )
}

/// Returns a job once it has ended, or as it is at `until`.
///
/// # Errors
/// See [`job`].
pub(crate) async fn wait_for_end(
    state: &AppState,
    caller: &Caller,
    handle: &JobHandle,
    until: Instant,
) -> Result<JobView, Refusal> {
    // Register before the lookup, so that no result is missed in between.
    let mut waiter = state.waiters().register(&handle.id);
    let deadline = match snapshot(state, caller, handle).await {
        Ok(snapshot) if snapshot.view.status.is_final() => return Ok(snapshot.view),
        Ok(snapshot) => snapshot.deadline,
        // A job published over NATS may be queued, although it can't be found by its id alone.
        Err(refusal) if refusal.code == ErrorCode::JobNotFound && handle.sequence.is_none() => None,
        Err(refusal) => return Err(refusal),
    };
    match ended_by(state, caller, &mut waiter, handle, deadline, until).await {
        Some(view) => Ok(view),
        None => job(state, caller, handle).await,
    }
}

/// Waits until a job ends, at most until `until`. Expires the job if it is still queued after its `deadline`.
pub(super) async fn ended_by(
    state: &AppState,
    caller: &Caller,
    waiter: &mut Waiter,
    handle: &JobHandle,
    deadline: Option<Timestamp>,
    until: Instant,
) -> Option<JobView> {
    restrict(waiter, caller, handle);
    let expiry = deadline.and_then(|deadline| {
        let left = Duration::try_from(expires_at(deadline).duration_since(clock::now())).unwrap_or_default();
        Instant::now().checked_add(left)
    });
    if let Some(expiry) = expiry.filter(|expiry| *expiry < until) {
        if let Some(result) = waiter.result(state.queue(), state.stop(), expiry).await {
            return Some(view::ended(result));
        }
        // Looking up the job expires it.
        if let Ok(view) = job(state, caller, handle).await
            && view.status.is_final()
        {
            return Some(view);
        }
    }
    let result = waiter.result(state.queue(), state.stop(), until).await;
    result.map(view::ended)
}

/// Makes a waiter ignore results of other tenants, and of earlier jobs with the same id.
pub(super) fn restrict(waiter: &mut Waiter, caller: &Caller, handle: &JobHandle) {
    waiter.set_sequence(handle.sequence);
    waiter.set_tenant((!caller.sees_all()).then(|| caller.tenant().clone()));
}

/// Shows a job that was accepted just now.
pub(super) async fn accepted(state: &AppState, handle: &JobHandle, subject: &JobSubject) -> JobView {
    match (state.running().get(handle), handle.sequence) {
        (Some(progress), _) => view::running(handle, &progress),
        (None, Some(sequence)) => waiting(state, handle, sequence, subject).await,
        (None, None) => view::queued(handle, None, None),
    }
}
