//! `/v1/dead-letters`: reads and deletes dead letters. The module `replay` replays them.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use precis_schemas::Job;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::job::JobLimits;
use precis_schemas::rest_operations::{DeadLetterList, DeadLetterView, StoredDeadLetter};
use serde::Deserialize;

use super::replay;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::extract::Query;
use crate::http::problem::ApiError;

/// Sequences of the stream that one request reads at most. Each takes a round trip to the server.
const MAX_SEQUENCES: u64 = 2_000;
/// Sequences to read at once. Their letters are in memory with whole bodies, each as large as a message may be.
const STEP: u64 = 32;
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

fn view(stored: StoredDeadLetter, limits: &JobLimits) -> DeadLetterView {
    let replayable = replay::Replay::of(&stored, limits).is_ok();
    let StoredDeadLetter {
        sequence,
        kind,
        letter,
    } = stored;
    let body = letter.body.as_deref().unwrap_or_default();
    DeadLetterView {
        sequence,
        kind,
        replayable,
        job_id: Job::salvage_id(body.as_bytes()).map(|id| id.to_string()),
        letter,
    }
}

/// Shortens the body for a list.
fn shorten(mut view: DeadLetterView) -> DeadLetterView {
    let bodies = [&mut view.letter.body, &mut view.letter.body_base16];
    for body in bodies.into_iter().flatten() {
        if let Some((end, _)) = body.char_indices().nth(BODY_CHARS) {
            body.truncate(end);
            body.shrink_to_fit();
        }
    }
    view
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
        let message = format!("limit must be 1 to {MAX_LIMIT}, not {limit}");
        return Err(ApiError::new(ErrorCode::InvalidParameter, message));
    }
    let limits = state.limits().job();
    let mut dead_letters = Vec::new();
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
            if dead_letters.len() == limit {
                // The page is full: the next one begins with this letter.
                next = Some(stored.sequence + 1);
                sequences = MAX_SEQUENCES;
                break;
            }
            dead_letters.push(shorten(view(stored, &limits)));
        }
        if next.is_none() || sequences >= MAX_SEQUENCES {
            break;
        }
    }
    Ok(([no_cache()], Json(DeadLetterList { dead_letters, next })).into_response())
}

pub(super) fn parse(sequence: &str) -> Result<u64, ApiError> {
    sequence.parse().map_err(|_| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            "the sequence in the path is not a whole number",
        )
    })
}

pub(super) async fn find(
    state: &AppState,
    caller: &Caller,
    sequence: u64,
) -> Result<StoredDeadLetter, ApiError> {
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
    let view = view(stored, &state.limits().job());
    Ok(([no_cache()], Json(view)).into_response())
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
