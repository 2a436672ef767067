//! Replays dead letters: a job runs again as a new job, a webhook is announced again.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use jiff::SignedDuration;
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::job::JobLimits;
use precis_schemas::rest_operations::{Replayed, StoredDeadLetter};
use precis_schemas::{Job, JobId, JobSubject};

use super::dead_letters;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::problem::ApiError;
use crate::jobs::submit;

/// What a dead letter becomes.
#[derive(Debug)]
pub(super) enum Replay {
    /// A job, for the subject that its message came by.
    Job(JobSubject, Box<Job>),
    /// A webhook.
    Webhook(Announcement),
}

impl Replay {
    /// Reads a dead letter.
    ///
    /// # Errors
    /// [`ErrorCode::NotReplayable`]: it is neither a job nor a webhook, or the message was malformed.
    pub(super) fn of(stored: &StoredDeadLetter, limits: &JobLimits) -> Result<Self, Refusal> {
        let refuse = |why: &str| {
            Refusal::new(
                ErrorCode::NotReplayable,
                format!("dead letter {} can't be replayed: {why}", stored.sequence),
            )
        };
        let letter = &stored.letter;
        let (is_job, is_webhook) = (
            letter.subject.starts_with("jobs."),
            letter.subject.starts_with("webhooks."),
        );
        if !(is_job || is_webhook) {
            return Err(refuse("only jobs and webhooks can be replayed"));
        }
        let body = letter
            .body
            .as_deref()
            .ok_or_else(|| refuse("its body was not kept as text"))?;
        if is_webhook {
            let announcement = serde_json::from_str(body)
                .map_err(|error| refuse(&format!("its body is not an announcement: {error}")))?;
            return Ok(Self::Webhook(announcement));
        }
        let subject: JobSubject = letter
            .subject
            .parse()
            .map_err(|error| refuse(&format!("its subject is not a job's: {error}")))?;
        let job = Job::from_json(body.as_bytes()).map_err(|refusal| refuse(&refusal.message))?;
        job.validate(subject.task, limits)
            .map_err(|refusal| refuse(&refusal.message))?;
        Ok(Self::Job(subject, Box::new(job)))
    }
}

/// Replays a dead letter and deletes it.
pub(super) async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Path(sequence): Path<String>,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let sequence = dead_letters::parse(&sequence)?;
    let stored = dead_letters::find(&state, &caller, sequence).await?;
    let id = replay_id(&stored);
    let job_id = match Replay::of(&stored, &state.limits().job())? {
        Replay::Job(subject, job) => Some(replay_job(&state, &caller, subject, *job, &id, trace).await?),
        Replay::Webhook(announcement) => {
            let announcement = Announcement {
                announced_at: clock::now(),
                ..announcement
            };
            // Under the webhook's own id, the stream would drop it soon after its first announcement.
            state.queue().announce(&announcement, &id).await?;
            None
        }
    };
    // If this fails, a repeated replay publishes the same job, which the queue or its first result drops.
    state.queue().delete_dead_letter(sequence).await?;
    tracing::info!(sequence, job = job_id.as_deref(), "dead letter replayed");
    Ok((StatusCode::ACCEPTED, Json(Replayed { job_id })))
}

/// Returns an id that is the same for every attempt to replay a dead letter, so that a repeated one publishes nothing.
fn replay_id(stored: &StoredDeadLetter) -> String {
    format!(
        "replay-{}-{}",
        stored.sequence,
        stored.letter.died_at.as_millisecond()
    )
}

/// Publishes the job of a dead letter under a new id, because the first result of its own id counts.
async fn replay_job(
    state: &AppState,
    caller: &Caller,
    subject: JobSubject,
    mut job: Job,
    id: &str,
    trace: TraceContext,
) -> Result<String, ApiError> {
    if job.metadata.len() < state.limits().job().max_metadata_entries {
        job.metadata.insert("replay_of".to_owned(), job.id.to_string());
    }
    job.id = id
        .parse::<JobId>()
        .map_err(|error| ApiError::internal(&error.to_string()))?;
    job.batch = None;
    let ttl = i64::try_from(state.api().default_ttl_seconds).unwrap_or(i64::MAX);
    job.deadline = clock::now().checked_add(SignedDuration::from_secs(ttl)).ok();
    submit::admit(state, caller, &subject, &job.params).await?;
    let submission = precis_producer::Submission { subject, job, trace };
    Ok(submit::publish(state, &submission).await?.to_string())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use precis_schemas::dead::DeadLetter;

    use super::*;

    #[test]
    fn only_letters_that_can_be_read_again_are_replayable() {
        let limits = precis_runtime::config::LimitsConfig::default().job();
        let code_of = |subject: &str, body: &str| {
            let at = Timestamp::UNIX_EPOCH;
            let reason = Refusal::new(ErrorCode::TooManyAttempts, "ten");
            let letter = DeadLetter::new(7, subject, body.as_bytes(), reason, 10, at, at);
            let read =
                StoredDeadLetter::read(3, "dead.v1.summarize", &serde_json::to_vec(&letter).unwrap(), at);
            Replay::of(&read, &limits).err().map(|refusal| refusal.code)
        };
        let job = r#"{"id": "a", "text": "Rain fell."}"#;
        let no = Some(ErrorCode::NotReplayable);
        assert_eq!(code_of("jobs.v1.default.normal.summarize.acme", job), None);
        for (subject, body) in [
            ("jobs.v1.default.normal.summarize", job),
            ("jobs.v1.default.normal.score.acme", job),
            (
                "jobs.v1.default.normal.summarize.acme",
                r#"{"id": "a", "text": " "}"#,
            ),
            ("jobs.v1.default.normal.summarize.acme", r#"{"id": "#),
            ("webhooks.v2.acme.a", job),
            ("results.v1.a", job),
        ] {
            assert_eq!(code_of(subject, body), no, "{subject} {body}");
        }
    }
}
