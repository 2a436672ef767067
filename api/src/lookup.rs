//! What is known of a job, found without a second book: its result, its place in the queue, and what
//! workers have said about it.

use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::JobView;
use precis_schemas::{JobHandle, JobResult, JobSubject};
use tokio::time::Instant;

use crate::access::Caller;
use crate::queue::{Copy, Standing};
use crate::state::AppState;
use crate::view;

/// The job as it is now, if it is one of the caller's.
///
/// # Errors
/// When there is no such job, none any more, or the queue can't be asked.
pub(crate) async fn job(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<JobView, Refusal> {
    if let Some(result) = state.queue().result(&handle.id, Copy::Any).await? {
        return ended(caller, handle, result);
    }
    let Some(sequence) = handle.sequence else {
        return match state.running().get(&handle.id) {
            // Of whom the job is can't be seen from its progress.
            Some(progress) if caller.sees_all() => Ok(view::running(handle, &progress)),
            _ => Err(not_found(
                handle,
                "; with an id alone, a job that still waits can't be found: \
                 append a dot and the sequence of its publish acknowledgement",
            )),
        };
    };
    if let Some(standing) = state.queue().standing(sequence).await?
        && standing.id == handle.id
    {
        if !caller.may_see(&standing.subject.tenant) {
            return Err(not_found(handle, ""));
        }
        return Ok(unfinished(state, handle, sequence, standing).await);
    }
    // It may have ended between the two looks: a worker stores the result, and only then lets go of the job.
    if let Some(result) = state.queue().result(&handle.id, Copy::Leader).await? {
        return ended(caller, handle, result);
    }
    let last = match state.depth().await?.last_sequence {
        last if sequence <= last => last,
        // A job that was published within the last second.
        _ => state.queue().depth().await?.last_sequence,
    };
    if sequence > last {
        return Err(not_found(handle, ""));
    }
    let hours = state.result_ttl_hours();
    Err(Refusal::new(
        ErrorCode::JobGone,
        format!(
            "job `{handle}` has left the queue and its result is no longer kept (results are kept for {hours} hours)"
        ),
    ))
}

/// A job that has ended.
fn ended(caller: &Caller, handle: &JobHandle, result: JobResult) -> Result<JobView, Refusal> {
    if caller.may_see(&result.tenant) {
        Ok(view::ended(result))
    } else {
        Err(not_found(handle, ""))
    }
}

/// A job that stands in the queue.
async fn unfinished(state: &AppState, handle: &JobHandle, sequence: u64, standing: Standing) -> JobView {
    let view = match state.running().get(&handle.id) {
        Some(progress) => view::running(handle, &progress),
        // A position is a courtesy: without it the answer is still true.
        None => {
            let depth = state.depth().await.ok();
            view::queued(
                handle,
                depth.and_then(|depth| depth.position(&standing.subject, sequence)),
            )
        }
    };
    JobView {
        submitted_at: standing.submitted_at,
        ..view
    }
}

fn not_found(handle: &JobHandle, hint: &str) -> Refusal {
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
    match job(state, caller, handle).await {
        Ok(view) if view.status.is_final() => return Ok(view),
        Ok(_) => {}
        // Published over NATS, it may be waiting all the same.
        Err(refusal) if refusal.code == ErrorCode::JobNotFound && handle.sequence.is_none() => {}
        Err(refusal) => return Err(refusal),
    }
    match waiter.result(state, until).await {
        Some(result) => ended(caller, handle, result),
        None => job(state, caller, handle).await,
    }
}

/// A job that was accepted just now, as `POST` shows it.
pub(crate) async fn accepted(state: &AppState, handle: &JobHandle, subject: &JobSubject) -> JobView {
    let position = match handle.sequence {
        Some(sequence) => state
            .depth()
            .await
            .ok()
            .and_then(|depth| depth.position(subject, sequence)),
        None => None,
    };
    match state.running().get(&handle.id) {
        Some(progress) => view::running(handle, &progress),
        None => view::queued(handle, position),
    }
}
