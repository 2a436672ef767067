//! Renders the payloads of webhooks: the end of a job or a batch, as the REST interface shows it.

use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::JobId;
use precis_schemas::batch_view::BatchStatus;
use precis_schemas::callback::{Announcement, WebhookEvent, WebhookSubject};
use precis_schemas::error_code::{ErrorCode, Refusal};

use super::state::AppState;
use crate::access::Caller;
use crate::batches;
use crate::jobs::view;
use crate::queue::ReadConsistency;
use crate::webhooks::sender::{Payload, PayloadSource};

impl PayloadSource for AppState {
    async fn payload(&self, announcement: &Announcement) -> Result<Payload, Refusal> {
        match &announcement.ended {
            WebhookSubject::Job { id, job_sequence } => {
                job_payload(self, announcement, id, *job_sequence).await
            }
            WebhookSubject::Batch { id } => batch_payload(self, announcement, id).await,
        }
    }
}

async fn job_payload(
    state: &AppState,
    announcement: &Announcement,
    id: &JobId,
    sequence: u64,
) -> Result<Payload, Refusal> {
    let expired = |code, message| Ok(Payload::Expired(Refusal::new(code, message)));
    let result = state.queue().result(id, ReadConsistency::Leader).await?;
    // An earlier job with the same id, which was cancelled, has an announcement of its own.
    let result = match result.filter(|result| !result.is_superseded_by(sequence)) {
        Some(result) => result,
        // The announcement is published a moment before the result, and the job leaves the queue after it.
        None if has_left(state, id, sequence).await? => {
            // The result may have been stored between the two looks.
            let result = state.queue().result(id, ReadConsistency::Leader).await?;
            let Some(result) = result.filter(|result| !result.is_superseded_by(sequence)) else {
                return expired(
                    ErrorCode::JobGone,
                    format!("the result of job `{id}` is no longer kept"),
                );
            };
            result
        }
        None if age_of(announcement) < state.result_retention().duration() => return Ok(Payload::Pending),
        None => {
            return expired(
                ErrorCode::JobGone,
                format!("the result of job `{id}` is no longer kept"),
            );
        }
    };
    // Publishers choose ids, so another tenant may have used this one first.
    if result.tenant != announcement.tenant {
        return expired(
            ErrorCode::JobNotFound,
            format!("the job `{id}` belongs to another tenant"),
        );
    }
    if result.job_sequence > sequence {
        return expired(
            ErrorCode::JobGone,
            format!(
                "job `{id}` was submitted again and ended before the webhook of its cancellation was delivered"
            ),
        );
    }
    let ended_at = result.finished_at;
    let kind = format!("job.{}", result.outcome);
    Ok(ready(kind, ended_at, view::ended(result)))
}

/// Returns whether the job at `sequence` has left the queue. Announcements of early releases don't say the sequence.
async fn has_left(state: &AppState, id: &JobId, sequence: u64) -> Result<bool, Refusal> {
    Ok(sequence != 0 && state.queue().queued_job(id, sequence).await?.is_none())
}

fn age_of(announcement: &Announcement) -> Duration {
    Duration::try_from(clock::now().duration_since(announcement.announced_at)).unwrap_or_default()
}

async fn batch_payload(
    state: &AppState,
    announcement: &Announcement,
    id: &JobId,
) -> Result<Payload, Refusal> {
    let caller = Caller::of_tenant(announcement.tenant.clone());
    let head = match batches::head(state.queue(), caller.tenant(), id).await {
        Ok(head) => head,
        Err(refusal) if refusal.code == ErrorCode::BatchNotFound => return Ok(Payload::Expired(refusal)),
        Err(refusal) => return Err(refusal),
    };
    let Some(upload_ended_at) = batches::intake_ended_at(state.batches(), &head) else {
        return Ok(Payload::Pending);
    };
    let view = batches::view(state, &caller, &head).await?;
    let kind = match view.status {
        BatchStatus::Finished => "batch.finished",
        // The recorded rows of a broken upload still run, and the batch ends with the last of them.
        BatchStatus::Broken if view.counts.queued + view.counts.running == 0 => "batch.broken",
        BatchStatus::Receiving | BatchStatus::Running | BatchStatus::Broken => return Ok(Payload::Pending),
    };
    // All rows may end before the upload does.
    let ended_at = view
        .finished_at
        .map_or(upload_ended_at, |at| at.max(upload_ended_at));
    Ok(ready(kind.to_owned(), ended_at, view))
}

fn ready(kind: String, ended_at: Timestamp, data: impl serde::Serialize) -> Payload {
    let event = WebhookEvent {
        kind,
        timestamp: ended_at,
        data,
    };
    Payload::Ready {
        // Strings, numbers and times always serialize.
        body: serde_json::to_vec(&event).unwrap_or_default().into(),
        ended_at,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use precis_producer::Submission;
    use precis_runtime::trace_context::TraceContext;
    use precis_schemas::callback::Callback;
    use precis_schemas::manifest::{BatchHead, IntakeState, head_of};
    use precis_schemas::{JobId, JobResult, Outcome, Token};

    use super::*;
    use crate::queue::QueueBackend;
    use crate::testing::{FakeQueue, result, state_of};

    #[tokio::test]
    async fn a_webhook_never_reports_another_job_with_the_same_id() {
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
        let first = state.payload(&announcement(7)).await.unwrap();
        assert!(matches!(first, Payload::Ready { .. }));
        // The job that was submitted later still waits.
        let submission = Submission {
            subject: "jobs.v1.default.normal.summarize.public".parse().unwrap(),
            job: serde_json::from_value(serde_json::json!({"id": "a", "text": "Rain fell."})).unwrap(),
            trace: TraceContext::begin(),
        };
        *queue.jobs.lock().unwrap() = vec![submission; 9];
        let later = state.payload(&announcement(9)).await.unwrap();
        assert!(matches!(later, Payload::Pending));
        // The stored result belongs to a later job.
        let before = state.payload(&announcement(5)).await.unwrap();
        assert!(matches!(before, Payload::Expired(_)));
    }

    #[tokio::test]
    async fn a_webhook_whose_result_was_dropped_is_given_up_at_once() {
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
        let Payload::Expired(reason) = state.payload(&announcement(7)).await.unwrap() else {
            panic!("the job has left the queue, and has no result");
        };
        assert_eq!(reason.code, ErrorCode::JobGone);
        // Announcements of early releases have no sequence, so the job can't be looked up.
        let old = state.payload(&announcement(0)).await.unwrap();
        assert!(matches!(old, Payload::Pending));
    }

    #[tokio::test]
    async fn an_abandoned_upload_is_reported_as_broken_and_a_running_one_is_pending() {
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
        let payload = async |hours_ago: i64, intake: IntakeState| {
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
                id_column: None,
                columns: Vec::new(),
            };
            let body = serde_json::to_vec(&head).unwrap().into();
            queue.put_batch_record(head_of(&tenant, &id), body).await.unwrap();
            (state.payload(&announcement).await.unwrap(), at)
        };
        assert!(matches!(
            payload(0, IntakeState::Receiving).await,
            (Payload::Pending, _)
        ));
        for (intake, kind) in [
            (IntakeState::Receiving, "batch.broken"),
            (IntakeState::Broken, "batch.broken"),
            (IntakeState::Complete, "batch.finished"),
        ] {
            let (Payload::Ready { body, ended_at }, written_at) = payload(3, intake).await else {
                panic!("{kind} is not ready");
            };
            let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(event["type"], kind);
            // An abandoned upload ends when its timeout passes, not at its last write.
            assert_eq!(ended_at > written_at, intake == IntakeState::Receiving, "{kind}");
        }
    }
}
