//! Termination a job from outside, whole: the steps of it go on when the client who asked has gone.

use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Cancel;
use precis_schemas::termination::Termination;
use precis_schemas::{JobHandle, Outcome};
use tracing::Instrument as _;

use crate::queue::TerminationOutcome;
use crate::state::AppState;

/// Ends a job, see [`Queue::end`](crate::queue::Queue::end), and tells the worker that may have one that is cancelled.
///
/// # Errors
/// When the queue can't be asked.
pub(crate) async fn end(
    state: &AppState,
    handle: &JobHandle,
    termination: Termination,
) -> Result<Option<TerminationOutcome>, Refusal> {
    let (state, handle) = (state.clone(), handle.clone());
    // On its own: a handler is dropped when its client leaves. With a record and no more than that, a job would stay in
    // the queue, to be decoded for nobody.
    let all = async move {
        let ended = state.queue().terminate(&handle, &termination).await?;
        if let (Some(TerminationOutcome::Terminated(result)), Outcome::Cancelled) =
            (&ended, termination.outcome)
        {
            state.queue().send_cancel(Cancel {
                id: result.id.clone(),
                job_sequence: result.job_sequence,
            });
        }
        Ok(ended)
    };
    tokio::spawn(all.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a job can't be ended");
        Err(Refusal::new(
            ErrorCode::Internal,
            "something went wrong inside; the logs have the details under this request id",
        ))
    })
}
