//! `POST /v1/summaries`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::{JobView, SubmitSummary, SubmittedBatch};
use precis_schemas::{Channel, JobHandle, JobId};
use serde::Serialize;
use tokio::time::Instant;

use crate::access::Caller;
use crate::extract::JsonBody;
use crate::idempotency::{self, Call, Key, Submitted};
use crate::prefer::Preferences;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::{lookup, submit, together, wait};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Longest that a client is told to stay away from a job that waits, in seconds.
const LONGEST_RETRY: f64 = 60.0;

/// Takes one text or several: 202 with the jobs, or 200 with their ends when the client waits and they come in time.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SubmitSummary>,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let preferences = Preferences::read(&headers)?;
    let until = began + wait::bounded(preferences.wait.unwrap_or(0), state.limits())?;
    let key = Key::read(&headers, caller.tenant(), "/v1/summaries", &body)?;
    if let Some(call) = idempotency::replay(&state, key.as_ref()).await? {
        return replayed(&state, &caller, &call, until, preferences).await;
    }
    let submissions = prepare(&state, &caller, body, &trace).await?;
    let mut waiting = together::Waiting::default();
    let begin = |submissions: &[Submission]| waiting.begin(&state, submissions);
    let handles = match idempotency::submit(&state, key, submissions, begin).await? {
        Submitted::Now(handles) => handles,
        Submitted::Before(call) => return replayed(&state, &caller, &call, until, preferences).await,
    };
    let batch = waiting.batch();
    let views = waiting.ended_by(&state, &caller, &handles, until).await;
    Ok(answer(batch, views, preferences))
}

/// The jobs that a body asks for, checked.
async fn prepare(
    state: &AppState,
    caller: &Caller,
    body: SubmitSummary,
    trace: &TraceContext,
) -> Result<Vec<Submission>, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let (texts, references) = match (&body.text, &body.texts, &body.reference, &body.references) {
        (None, None, ..) => return invalid("missing field `text`; send `text`, or several `texts`"),
        (Some(_), Some(_), ..) => return invalid("text and texts exclude each other; send one of them"),
        (Some(_), None, _, Some(_)) => {
            return invalid("references belong to texts; send `reference` with a text");
        }
        (None, Some(_), Some(_), _) => {
            return invalid("reference belongs to a text; send `references` with texts");
        }
        (Some(_), None, _, None) => {
            let request = submit::Request::of(Channel::Api, body);
            return Ok(vec![submit::prepare(state, caller, request, trace).await?]);
        }
        (None, Some(texts), None, references) => (texts.clone(), references.clone()),
    };
    together::check_count("texts", texts.len(), state.limits().max_batch_texts)?;
    let references = references.unwrap_or_else(|| vec![None; texts.len()]);
    if references.len() != texts.len() {
        let (given, wanted) = (references.len(), texts.len());
        return invalid(&format!(
            "there are {given} references for {wanted} texts; send null where there is none"
        ));
    }
    let places = BatchRef::all(&JobId::generate(), texts.len() as u64);
    let requests = places
        .zip(texts)
        .zip(references)
        .map(|((place, text), reference)| submit::Request {
            id: place.job_id(),
            batch: Some(place),
            ..submit::Request::of(
                Channel::Api,
                SubmitSummary {
                    text: Some(text),
                    texts: None,
                    reference,
                    references: None,
                    ..body.clone()
                },
            )
        });
    together::prepare_all(state, caller, "texts", requests, trace).await
}

/// The answer with the jobs of the first request with the same key.
async fn replayed(
    state: &AppState,
    caller: &Caller,
    call: &Call,
    until: Instant,
    preferences: Preferences,
) -> Result<Response, ApiError> {
    let handles = call.handles();
    let views = join_all(
        handles
            .iter()
            .map(|handle| as_it_is(state, caller, handle, until)),
    )
    .await;
    let views: Result<Vec<JobView>, Refusal> = views.into_iter().collect();
    let mut response = answer(call.batch.clone(), views?, preferences);
    let (name, value) = idempotency::REPLAYED;
    response.headers_mut().insert(name, value);
    Ok(response)
}

async fn as_it_is(
    state: &AppState,
    caller: &Caller,
    handle: &JobHandle,
    until: Instant,
) -> Result<JobView, Refusal> {
    lookup::job_by(state, caller, handle, until).await
}

fn answer(batch: Option<JobId>, mut views: Vec<JobView>, preferences: Preferences) -> Response {
    let ended = views.iter().all(|view| view.status.is_final());
    let retry = retry_after(&views);
    match (batch, views.pop()) {
        (None, Some(view)) => {
            let mut response = respond(ended, &view, retry, preferences);
            // A handle is plain ASCII, so that it can't fail.
            if let Ok(location) = HeaderValue::from_str(&view.links.this) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        (batch, last) => {
            views.extend(last);
            let body = SubmittedBatch {
                id: batch.unwrap_or_else(JobId::generate),
                jobs: views,
            };
            respond(ended, &body, retry, preferences)
        }
    }
}

/// When a client should come again, in seconds: when the last of its jobs will have ended, as far as that is known.
pub(crate) fn retry_after(views: &[JobView]) -> u64 {
    let eta = views
        .iter()
        .filter_map(|view| view.eta_seconds)
        .fold(1.0, f64::max);
    // Between 1 and 60.
    eta.ceil().min(LONGEST_RETRY) as u64
}

/// 200 with what has ended, or 202 with what goes on.
pub(crate) fn respond(
    ended: bool,
    body: &impl Serialize,
    retry_after: u64,
    preferences: Preferences,
) -> Response {
    let status = if ended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    if !ended {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    }
    let applied = preferences.applied(!ended);
    if let Some(applied) = applied.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    response
}
