//! What is posted: the end of a job, or of a batch, as REST shows it.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::batch_view::BatchStatus;
use precis_schemas::callback::{Announcement, WebhookEvent, WebhookSubject};
use precis_schemas::error_code::{ErrorCode, Refusal};

use crate::access::Caller;
use crate::batches;
use crate::jobs::view;
use crate::queue::ReadConsistency;
use crate::state::AppState;

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
        WebhookSubject::Job { id, job_sequence } => {
            let result = state.queue().result(id, ReadConsistency::Leader).await?;
            // The end of an earlier job of the same id, which was cancelled, has an announcement of its own.
            let result = result.filter(|result| !result.is_superseded_by(*job_sequence));
            let Some(result) = result else {
                // The announcement comes a moment before the result.
                let age = Duration::try_from(clock::now().duration_since(announcement.announced_at));
                if age.unwrap_or_default() < state.result_retention().duration() {
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
            if result.job_sequence > *job_sequence {
                return Ok(Payload::Gone(Refusal::new(
                    ErrorCode::JobGone,
                    format!(
                        "job `{id}` was submitted again before its cancellation was posted, and has ended again"
                    ),
                )));
            }
            let at = result.finished_at;
            let kind = format!("job.{}", result.outcome);
            Ok(ready(kind, at, view::ended(result)))
        }
        WebhookSubject::Batch { id } => {
            let caller = Caller::of_tenant(announcement.tenant.clone());
            let head = match batches::head(state.queue(), caller.tenant(), id).await {
                Ok(head) => head,
                Err(refusal) if refusal.code == ErrorCode::BatchNotFound => {
                    return Ok(Payload::Gone(refusal));
                }
                Err(refusal) => return Err(refusal),
            };
            let Some(taken_in) = batches::intake_ended_at(state.batches(), &head) else {
                return Ok(Payload::NotYet);
            };
            let view = batches::view(state, &caller, &head).await?;
            let kind = match view.status {
                BatchStatus::Finished => "batch.finished",
                // The rows that came are jobs like any others: only their end is the batch's.
                BatchStatus::Broken if view.counts.queued + view.counts.running == 0 => "batch.broken",
                BatchStatus::Receiving | BatchStatus::Running | BatchStatus::Broken => {
                    return Ok(Payload::NotYet);
                }
            };
            // Its rows may have ended before the rest was read.
            let at = view.finished_at.map_or(taken_in, |at| at.max(taken_in));
            Ok(ready(kind.to_owned(), at, view))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use precis_schemas::callback::Callback;
    use precis_schemas::manifest::{BatchHead, IntakeState, head_of};
    use precis_schemas::{JobId, JobResult, Outcome, Token};

    use super::*;
    use crate::queue::QueueBackend;
    use crate::testing::{FakeQueue, result, state_of};

    #[tokio::test]
    async fn the_end_of_an_earlier_job_of_the_same_id_is_not_posted_for_the_later_one() {
        let queue = Arc::new(FakeQueue::default());
        let state = state_of(queue.clone());
        let announcement = |job_sequence| Announcement {
            ended: WebhookSubject::Job {
                id: "a".parse().unwrap(),
                job_sequence,
            },
            tenant: Token::sanitized("public"),
            callback: Callback {
                url: "https://hooks.example.com/".to_owned(),
                key: None,
            },
            announced_at: clock::now(),
        };
        queue.store(JobResult {
            outcome: Outcome::Cancelled,
            ..result("a", 7)
        });
        let first = of(&state, &announcement(7)).await.unwrap();
        assert!(matches!(first, Payload::Ready(..)));
        let later = of(&state, &announcement(9)).await.unwrap();
        assert!(matches!(later, Payload::NotYet));
        // What is stored by now is a later one's.
        let before = of(&state, &announcement(5)).await.unwrap();
        assert!(matches!(before, Payload::Gone(_)));
    }

    #[tokio::test]
    async fn a_batch_whose_gateway_has_died_is_posted_as_broken_and_one_that_is_taken_in_is_not() {
        let queue = Arc::new(FakeQueue::default());
        let state = state_of(queue.clone());
        let (id, tenant): (JobId, _) = ("a".parse().unwrap(), Token::sanitized("public"));
        let announcement = Announcement {
            ended: WebhookSubject::Batch { id: id.clone() },
            tenant: tenant.clone(),
            callback: Callback {
                url: "https://hooks.example.com/".to_owned(),
                key: None,
            },
            announced_at: clock::now(),
        };
        let heard = async |hours_ago: i64, intake: IntakeState| {
            let at = clock::now() - jiff::SignedDuration::from_hours(hours_ago);
            let head = BatchHead {
                id: id.clone(),
                subject: "jobs.v1.default.bulk.summarize.public".to_owned(),
                intake,
                error: None,
                rows: 0,
                chunks: 0,
                deadline: clock::now(),
                created_at: at,
                updated_at: at,
                digest: None,
            };
            let body = serde_json::to_vec(&head).unwrap().into();
            queue.put_batch_record(head_of(&tenant, &id), body).await.unwrap();
            (of(&state, &announcement).await.unwrap(), at)
        };
        assert!(matches!(
            heard(0, IntakeState::Receiving).await,
            (Payload::NotYet, _)
        ));
        for (intake, kind) in [
            (IntakeState::Receiving, "batch.broken"),
            (IntakeState::Broken, "batch.broken"),
            (IntakeState::Complete, "batch.finished"),
        ] {
            let (Payload::Ready(body, ended_at), written_at) = heard(3, intake).await else {
                panic!("{kind} is to be posted");
            };
            let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(event["type"], kind);
            // Of one that was given up it is known only when nothing has been heard of it for long enough.
            assert_eq!(ended_at > written_at, intake == IntakeState::Receiving, "{kind}");
        }
    }
}
