//! `/v1/dead-letters`: reads, replays and deletes dead letters.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use jiff::SignedDuration;
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::callback::Announcement;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest_operations::{DeadLetterList, DeadLetterView, Replayed, StoredDeadLetter};
use precis_schemas::{Job, JobId, JobSubject};
use serde::Deserialize;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::extract::Query;
use crate::http::problem::ApiError;
use crate::jobs::submit;

/// Sequences of the stream that one request reads at most.
const MAX_SEQUENCES: u64 = 5_000;
/// Sequences to read at once.
const STEP: u64 = 250;
/// Largest and default page.
const MAX_LIMIT: usize = 500;
const DEFAULT_LIMIT: usize = 50;
/// Characters of a body in a list.
const BODY_CHARS: usize = 300;

/// Query of `GET /v1/dead-letters`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    before: Option<u64>,
    limit: Option<usize>,
    kind: Option<String>,
    code: Option<String>,
    q: Option<String>,
}

impl ListQuery {
    fn matches(&self, stored: &StoredDeadLetter) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted
                .as_ref()
                .is_none_or(|text| text.is_empty() || text == value)
        };
        let letter = &stored.letter;
        let contains = |phrase: &String| {
            let phrase = phrase.to_lowercase();
            let body = letter.body.as_deref().unwrap_or_default();
            [body, &letter.reason.message, &letter.subject]
                .iter()
                .any(|text| text.to_lowercase().contains(&phrase))
        };
        is(&self.kind, &stored.kind)
            && is(&self.code, letter.reason.code.as_str())
            && self.q.as_ref().is_none_or(contains)
    }
}

/// Whether the caller may see a letter. A letter without a tenant belongs to the deployment.
fn may_see(caller: &Caller, stored: &StoredDeadLetter) -> bool {
    caller.sees_all()
        || stored
            .tenant()
            .is_some_and(|tenant| tenant == caller.tenant().as_str())
}

fn view(stored: StoredDeadLetter) -> DeadLetterView {
    let StoredDeadLetter {
        sequence,
        kind,
        letter,
    } = stored;
    let body = letter.body.as_deref().unwrap_or_default();
    let is_job = letter.subject.starts_with("jobs.");
    DeadLetterView {
        sequence,
        kind,
        replayable: letter.body.is_some() && (is_job || letter.subject.starts_with("webhooks.")),
        job_id: Job::salvage_id(body.as_bytes()).map(|id| id.to_string()),
        letter,
    }
}

/// Lists dead letters, the latest first.
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, ApiError> {
    state.queue().require_durable("dead letters")?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let message = format!("limit must be 1 to {MAX_LIMIT}, and is {limit}");
        return Err(ApiError::new(ErrorCode::InvalidParameter, message));
    }
    let mut found = Vec::new();
    let mut next = query.before;
    let mut sequences = 0;
    loop {
        let page = state.queue().dead_letters(next, STEP).await?;
        next = page.next;
        sequences += STEP;
        for stored in page.letters {
            if !(may_see(&caller, &stored) && query.matches(&stored)) {
                continue;
            }
            if found.len() == limit {
                // The page is full: the next one begins with this letter.
                next = Some(stored.sequence + 1);
                sequences = MAX_SEQUENCES;
                break;
            }
            found.push(stored);
        }
        if next.is_none() || sequences >= MAX_SEQUENCES {
            break;
        }
    }
    let dead_letters = found.into_iter().map(|stored| {
        let mut shown = view(stored);
        for body in [&mut shown.letter.body, &mut shown.letter.body_base16]
            .into_iter()
            .flatten()
        {
            if let Some((end, _)) = body.char_indices().nth(BODY_CHARS) {
                body.truncate(end);
            }
        }
        shown
    });
    let dead_letters = dead_letters.collect();
    Ok(([no_cache()], Json(DeadLetterList { dead_letters, next })).into_response())
}

fn parse(sequence: &str) -> Result<u64, ApiError> {
    sequence.parse().map_err(|_| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            "the sequence in the path is not a whole number",
        )
    })
}

async fn find(state: &AppState, caller: &Caller, sequence: u64) -> Result<StoredDeadLetter, ApiError> {
    state.queue().require_durable("dead letters")?;
    let stored = state.queue().dead_letter(sequence).await?;
    stored.filter(|stored| may_see(caller, stored)).ok_or_else(|| {
        ApiError::new(
            ErrorCode::DeadLetterNotFound,
            format!("there is no dead letter {sequence}, or it is no longer kept"),
        )
    })
}

/// Returns a dead letter with its whole body.
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(sequence): Path<String>,
) -> Result<Response, ApiError> {
    let sequence = parse(&sequence)?;
    let stored = find(&state, &caller, sequence).await?;
    Ok(([no_cache()], Json(view(stored))).into_response())
}

/// Deletes a dead letter. Deleting it again is not an error.
pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Path(sequence): Path<String>,
) -> Result<StatusCode, ApiError> {
    let sequence = parse(&sequence)?;
    match find(&state, &caller, sequence).await {
        Ok(_) => {
            state.queue().delete_dead_letter(sequence).await?;
            tracing::info!(sequence, "dead letter deleted");
            Ok(StatusCode::NO_CONTENT)
        }
        Err(error) if error.refusal().code == ErrorCode::DeadLetterNotFound => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error),
    }
}

/// Replays a dead letter and deletes it: a job runs again as a new job, a webhook is announced again.
pub(super) async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Path(sequence): Path<String>,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let sequence = parse(&sequence)?;
    let stored = find(&state, &caller, sequence).await?;
    let job_id = if stored.letter.subject.starts_with("jobs.") {
        Some(replay_job(&state, &caller, &stored, trace).await?)
    } else if stored.letter.subject.starts_with("webhooks.") {
        let body = stored.letter.body.as_deref().unwrap_or_default();
        let announcement: Announcement = serde_json::from_str(body)
            .map_err(|error| not_replayable(&stored, &format!("its body is not an announcement: {error}")))?;
        let announcement = Announcement {
            announced_at: clock::now(),
            ..announcement
        };
        // Under the webhook's own id, the stream would drop it soon after its first announcement.
        state.queue().announce(&announcement, &replay_id(&stored)).await?;
        None
    } else {
        return Err(not_replayable(&stored, "only jobs and webhooks can be replayed").into());
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

fn not_replayable(stored: &StoredDeadLetter, why: &str) -> Refusal {
    Refusal::new(
        ErrorCode::NotReplayable,
        format!("dead letter {} can't be replayed: {why}", stored.sequence),
    )
}

/// Publishes the job of a dead letter under a new id, because the first result of its own id counts.
async fn replay_job(
    state: &AppState,
    caller: &Caller,
    stored: &StoredDeadLetter,
    trace: TraceContext,
) -> Result<String, ApiError> {
    let letter = &stored.letter;
    let Some(body) = letter.body.as_deref() else {
        return Err(not_replayable(stored, "its body was not kept").into());
    };
    let subject: JobSubject = letter
        .subject
        .parse()
        .map_err(|error| not_replayable(stored, &format!("its subject is not a job's: {error}")))?;
    let mut job =
        Job::from_json(body.as_bytes()).map_err(|refusal| not_replayable(stored, &refusal.message))?;
    let limits = state.limits().job();
    if job.metadata.len() < limits.max_metadata_entries {
        job.metadata.insert("replay_of".to_owned(), job.id.to_string());
    }
    job.id = replay_id(stored)
        .parse::<JobId>()
        .map_err(|error| ApiError::internal(&error.to_string()))?;
    job.batch = None;
    let ttl = i64::try_from(state.api().default_ttl_seconds).unwrap_or(i64::MAX);
    job.deadline = clock::now().checked_add(SignedDuration::from_secs(ttl)).ok();
    job.validate(subject.task, &limits)
        .map_err(|refusal| not_replayable(stored, &refusal.message))?;
    caller.may_submit(subject.lane, &subject.model)?;
    caller.reserve(state.queue(), 1).await?;
    let submission = precis_producer::Submission { subject, job, trace };
    Ok(submit::publish(state, &submission).await?.to_string())
}
