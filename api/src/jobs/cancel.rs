//! Taking back a job: one that waits leaves the queue, one that runs leaves its batch.
//!
//! The record `cancelled` is stored first, so that the first one wins: from then on it is the job's end, whatever a worker
//! still does. Then the job is taken off the queue, and the worker that may have it is told.

use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::{JobView, Status};
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, Outcome};

use crate::access::Caller;
use crate::http::problem::ApiError;
use crate::jobs::lookup;
use crate::jobs::termination;
use crate::jobs::view;
use crate::queue::TerminationOutcome;
use crate::state::AppState;

/// Cancels a job. One that was cancelled before is no error.
///
/// # Errors
/// When it has ended in another way, is not there, or the queue can't be asked.
pub(crate) async fn job(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<JobView, ApiError> {
    let before = lookup::job(state, caller, handle).await?;
    if before.status.is_final() {
        return finished(before);
    }
    // An id alone is enough where a worker has said at which place the job stands.
    let running = state.running().get(handle);
    let sequence = handle
        .sequence
        .or_else(|| running.as_ref().and_then(|progress| progress.job_sequence));
    let handle = JobHandle {
        id: handle.id.clone(),
        sequence,
    };
    let termination = Termination {
        outcome: Outcome::Cancelled,
        reason: Refusal::new(ErrorCode::Cancelled, "the client cancelled the job"),
        attempts: running.map_or(0, |progress| progress.attempt),
    };
    match termination::end(state, &handle, termination).await? {
        Some(TerminationOutcome::Terminated(result)) => {
            tracing::info!(job = %view::handle_of(&result), "a job is cancelled by its client");
            Ok(view::ended(*result))
        }
        Some(TerminationOutcome::AlreadyFinished(result)) => finished(view::ended(*result)),
        // It has ended between the two looks, or it is not there any more.
        None => finished(lookup::job(state, caller, &handle).await?),
    }
}

/// The answer about a job that has ended.
fn finished(view: JobView) -> Result<JobView, ApiError> {
    match view.status {
        Status::Cancelled => Ok(view),
        // It changes hands at this very moment, or runs and nobody has said at which place in the queue it stands.
        Status::Queued | Status::Running => Err(ApiError::new(
            ErrorCode::QueueUnavailable,
            format!(
                "job `{}` can't be found in the queue at the moment; send the request again, with the id and sequence that \
                 the job was accepted with",
                view.id
            ),
        )
        .of_job(view.id)),
        status => {
            let shown = serde_json::to_value(status).unwrap_or_default();
            let message = format!(
                "job `{}` has ended already: {}",
                view.id,
                shown.as_str().unwrap_or_default()
            );
            Err(ApiError::new(ErrorCode::JobFinished, message)
                .of_job(view.id)
                .in_state(status))
        }
    }
}
