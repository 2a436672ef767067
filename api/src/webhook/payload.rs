//! What is posted: the end of a job, or of a batch, as REST shows it.

use bytes::Bytes;
use jiff::Timestamp;
use precis_schemas::batch_view::BatchStatus;
use precis_schemas::callback::{Announcement, Ended, WebhookEvent};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::time;

use crate::access::Caller;
use crate::batch;
use crate::queue::Copy;
use crate::state::AppState;
use crate::view;

/// What can be said about an announcement now.
pub(super) enum Payload {
    /// This is to be posted; it ended at that time.
    Ready(Bytes, Timestamp),
    /// It has not ended.
    NotYet,
    /// There is nothing to post any more.
    Gone(Refusal),
}

/// What is to be posted for an announcement.
///
/// # Errors
/// When the queue can't be asked: that may pass.
pub(super) async fn of(state: &AppState, announcement: &Announcement) -> Result<Payload, Refusal> {
    match &announcement.ended {
        Ended::Job { id } => {
            let Some(result) = state.queue().result(id, Copy::Leader).await? else {
                // The announcement comes a moment before the result.
                let age = time::now().duration_since(announcement.announced_at);
                if age.as_hours() < state.result_ttl_hours().cast_signed() {
                    return Ok(Payload::NotYet);
                }
                return Ok(Payload::Gone(Refusal::new(
                    ErrorCode::JobGone,
                    format!("the result of job `{id}` is no longer kept"),
                )));
            };
            // Ids are chosen by those who publish: somebody else may have had this one first.
            if result.tenant != announcement.tenant {
                return Ok(Payload::Gone(Refusal::new(
                    ErrorCode::JobNotFound,
                    format!("the job `{id}` is another tenant's"),
                )));
            }
            let at = result.finished_at;
            let kind = format!("job.{}", result.outcome);
            Ok(ready(kind, at, view::ended(result)))
        }
        Ended::Batch { id } => {
            let caller = Caller::of_tenant(announcement.tenant.clone());
            let head = match batch::head(state.queue(), caller.tenant(), id).await {
                Ok(head) => head,
                Err(refusal) if refusal.code == ErrorCode::BatchNotFound => {
                    return Ok(Payload::Gone(refusal));
                }
                Err(refusal) => return Err(refusal),
            };
            let view = batch::view(state, &caller, &head).await?;
            match view.status {
                BatchStatus::Receiving | BatchStatus::Running => Ok(Payload::NotYet),
                BatchStatus::Finished | BatchStatus::Broken => {
                    let at = view.finished_at.unwrap_or(head.updated_at);
                    Ok(ready("batch.finished".to_owned(), at, view))
                }
            }
        }
    }
}

fn ready(kind: String, at: Timestamp, data: impl serde::Serialize) -> Payload {
    let event = WebhookEvent {
        kind,
        timestamp: at,
        data,
    };
    // Texts, numbers and times always have a JSON form.
    Payload::Ready(serde_json::to_vec(&event).unwrap_or_default().into(), at)
}
