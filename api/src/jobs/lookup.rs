//! What is known of a job, found without a second book: its result, its place in the queue, and what
//! workers have said about it.

use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::JobView;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, JobResult, JobSubject, Outcome};
use tokio::time::Instant;

use crate::access::Caller;
use crate::jobs::eta;
use crate::jobs::termination;
use crate::jobs::view;
use crate::queue::{QueuedJob, ReadConsistency, TerminationOutcome};
use crate::state::AppState;
use crate::watch::wait::Waiter;

/// A job as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// As REST shows it.
    pub(crate) view: JobView,
    /// When its time is up, if it has not ended and that is known.
    pub(crate) deadline: Option<Timestamp>,
    /// Where it waits, likewise.
    pub(crate) subject: Option<JobSubject>,
}

impl Look {
    /// At a job that has ended.
    pub(crate) fn ended(result: JobResult) -> Self {
        Self::at(view::ended(result))
    }

    fn at(view: JobView) -> Self {
        Self {
            view,
            deadline: None,
            subject: None,
        }
    }
}

/// After its deadline a job that waits is ended by whoever looks at it. A worker that has it at that moment comes first.
const GRACE: Duration = Duration::from_secs(1);

/// When a job with this deadline is ended by whoever looks at it. The deadline is the client's: there may be no time
/// after it.
pub(crate) fn given_up_at(deadline: Timestamp) -> Timestamp {
    deadline.checked_add(GRACE).unwrap_or(Timestamp::MAX)
}

/// The job as it is now, if it is one of the caller's.
///
/// # Errors
/// When there is no such job, none any more, or the queue can't be asked.
pub(crate) async fn job(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<JobView, Refusal> {
    look(state, caller, handle).await.map(|look| look.view)
}

/// As [`job`], with what else is known.
pub(crate) async fn look(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<Look, Refusal> {
    if let Some(result) = result_of(state, caller, handle, ReadConsistency::Any).await? {
        return Ok(Look::ended(result));
    }
    let Some(sequence) = handle.sequence else {
        return match state.running().get(handle) {
            // Of whom the job is can't be seen from its progress.
            Some(progress) if caller.sees_all() => Ok(Look::at(view::running(handle, &progress))),
            _ => Err(not_found(handle)),
        };
    };
    if let Some(standing) = state.queue().queued_job(sequence).await?
        && standing.id == handle.id
        && caller.may_see(&standing.subject.tenant)
    {
        return unfinished(state, handle, sequence, standing).await;
    }
    // It may have ended between the two looks: a worker stores the result, and only then lets go of the job.
    if let Some(result) = result_of(state, caller, handle, ReadConsistency::Leader).await? {
        return Ok(Look::ended(result));
    }
    let last = match state.depth().await?.last_sequence {
        last if sequence <= last => last,
        // A job that was published within the last second.
        _ => state.queue().depth().await?.last_sequence,
    };
    // Whoever sees only the jobs of a tenant is told that one is gone when it was the tenant's.
    let was_there =
        sequence <= last && (caller.sees_all() || state.analytics().knows(&handle.id, caller.tenant()).await);
    if !was_there {
        return Err(not_found(handle));
    }
    let hours = state.result_ttl_hours();
    Err(Refusal::new(
        ErrorCode::JobGone,
        format!(
            "job `{handle}` has left the queue and its result is no longer kept (results are kept for {hours} hours)"
        ),
    ))
}

/// The job's result if it is the caller's to see, and not that of an earlier job of the same id which was cancelled.
///
/// What is not the caller's does not exist for the caller: it makes no difference, not even in time.
async fn result_of(
    state: &AppState,
    caller: &Caller,
    handle: &JobHandle,
    copy: ReadConsistency,
) -> Result<Option<JobResult>, Refusal> {
    let result = state.queue().result(&handle.id, copy).await?;
    let sequence = handle
        .sequence
        .or_else(|| state.running().get(handle)?.job_sequence);
    Ok(result.filter(|result| {
        caller.may_see(&result.tenant) && !sequence.is_some_and(|sequence| result.gives_way_to(sequence))
    }))
}

/// A job that stands in the queue.
async fn unfinished(
    state: &AppState,
    handle: &JobHandle,
    sequence: u64,
    standing: QueuedJob,
) -> Result<Look, Refusal> {
    let deadline = standing.deadline;
    let view = match state.running().get(handle) {
        Some(progress) => view::running(handle, &progress),
        None => {
            if let Some(deadline) = deadline
                && clock::now() >= given_up_at(deadline)
                && let Some(result) = expire(state, handle, deadline).await?
            {
                return Ok(Look::ended(result));
            }
            waiting(state, handle, sequence, &standing.subject).await
        }
    };
    let view = JobView {
        submitted_at: standing.submitted_at,
        ..view
    };
    Ok(Look {
        view,
        deadline,
        subject: Some(standing.subject),
    })
}

/// Ends a job whose time is up while it waits for a worker.
async fn expire(
    state: &AppState,
    handle: &JobHandle,
    deadline: Timestamp,
) -> Result<Option<JobResult>, Refusal> {
    let termination = Termination {
        outcome: Outcome::Expired,
        reason: Refusal::new(
            ErrorCode::DeadlineExceeded,
            format!("the deadline {deadline} passed before a worker had time for the job"),
        ),
        attempts: 0,
    };
    let ended = termination::end(state, handle, termination).await?;
    Ok(ended.map(|ended| match ended {
        TerminationOutcome::Terminated(result) | TerminationOutcome::AlreadyFinished(result) => *result,
    }))
}

/// A job that waits, with its place and when it will have ended. Both are courtesies: without them the answer is still
/// true.
pub(crate) async fn waiting(
    state: &AppState,
    handle: &JobHandle,
    sequence: u64,
    subject: &JobSubject,
) -> JobView {
    let Ok(depth) = state.depth().await else {
        return view::queued(handle, None, None);
    };
    let position = depth.position(subject, sequence);
    let eta = position.and_then(|position| eta::seconds(&depth, &state.workers().live(), subject, position));
    view::queued(handle, position, eta)
}

/// The one refusal of a job that never was and of one that is somebody else's.
pub(crate) fn not_found(handle: &JobHandle) -> Refusal {
    let hint = match handle.sequence {
        Some(_) => "",
        None => {
            "; with an id alone, a job that still waits can't be found: append a dot and the sequence of its publish \
             acknowledgement"
        }
    };
    Refusal::new(
        ErrorCode::JobNotFound,
        format!("there is no job `{handle}`{hint}"),
    )
}

/// The job when it has ended, or as it is at `until`, whichever comes first.
///
/// # Errors
/// As [`job`].
pub(crate) async fn job_by(
    state: &AppState,
    caller: &Caller,
    handle: &JobHandle,
    until: Instant,
) -> Result<JobView, Refusal> {
    // Before the look: what comes after it is noticed.
    let mut waiter = state.waiters().register(&handle.id);
    let deadline = match look(state, caller, handle).await {
        Ok(look) if look.view.status.is_final() => return Ok(look.view),
        Ok(look) => look.deadline,
        // Published over NATS, it may be waiting all the same.
        Err(refusal) if refusal.code == ErrorCode::JobNotFound && handle.sequence.is_none() => None,
        Err(refusal) => return Err(refusal),
    };
    Ok(
        match ended_by(state, caller, &mut waiter, handle, deadline, until).await {
            Some(view) => view,
            None => job(state, caller, handle).await?,
        },
    )
}

/// The job when it has ended, if that is before `until`: by its result, or by its `deadline` when it still waits then.
pub(crate) async fn ended_by(
    state: &AppState,
    caller: &Caller,
    waiter: &mut Waiter,
    handle: &JobHandle,
    deadline: Option<Timestamp>,
    until: Instant,
) -> Option<JobView> {
    waiter.stands_at(handle.sequence);
    waiter.is_for(caller);
    let give_up = deadline.and_then(|deadline| {
        let left = Duration::try_from(given_up_at(deadline).duration_since(clock::now())).unwrap_or_default();
        Instant::now().checked_add(left)
    });
    if let Some(give_up) = give_up.filter(|give_up| *give_up < until) {
        if let Some(result) = waiter.result(state, give_up).await {
            return Some(view::ended(result));
        }
        if let Ok(view) = job(state, caller, handle).await
            && view.status.is_final()
        {
            return Some(view);
        }
    }
    waiter.result(state, until).await.map(view::ended)
}

/// A job that was accepted just now, as `POST` shows it.
pub(crate) async fn accepted(state: &AppState, handle: &JobHandle, subject: &JobSubject) -> JobView {
    match (state.running().get(handle), handle.sequence) {
        (Some(progress), _) => view::running(handle, &progress),
        (None, Some(sequence)) => waiting(state, handle, sequence, subject).await,
        (None, None) => view::queued(handle, None, None),
    }
}
