//! `GET` and `DELETE /v1/jobs/{id}`, and `POST /v1/jobs/{id}/reference`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use precis_runtime::clock;
use precis_runtime::config::LimitsConfig;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::reference::LateReference;
use precis_schemas::rest::{JobView, ReferenceAccepted, Status, SubmitReference};
use precis_schemas::{JobHandle, Token};
use serde::Deserialize;
use tokio::time::Instant;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::{lists_etag, no_cache};
use crate::http::extract::{JsonBody, Query};
use crate::http::problem::ApiError;
use crate::jobs::lookup;
use crate::jobs::submit;
use crate::jobs::view;
use crate::queue::{ReadConsistency, TerminationOutcome};

/// Query parameters of a route that may wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Longest time to wait for the end of the job or batch, in seconds.
    pub(crate) wait: Option<u64>,
}

/// Returns how long a request may wait.
///
/// # Errors
/// [`ErrorCode::InvalidParameter`] if that is longer than `limits.max_wait_seconds`.
pub(super) fn wait_duration(query: &WaitQuery, limits: &LimitsConfig) -> Result<Duration, Refusal> {
    let (seconds, max) = (query.wait.unwrap_or(0), limits.max_wait_seconds);
    if seconds > max {
        return Err(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("wait must be at most {max} seconds, not {seconds}"),
        ));
    }
    Ok(Duration::from_secs(seconds))
}

/// Parses the handle in a path.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] if it is malformed.
pub(super) fn parse_handle(id: &str) -> Result<JobHandle, ApiError> {
    id.parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))
}

/// `GET /v1/jobs/{id}`: returns a job, and may wait for its end.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let handle = parse_handle(&id)?;
    let wait = wait_duration(&query, state.limits())?;
    let view = if wait.is_zero() {
        lookup::job(&state, &caller, &handle).await?
    } else {
        lookup::wait_for_end(&state, &caller, &handle, Instant::now() + wait).await?
    };
    let body = serde_json::to_vec(&view)
        .map_err(|error| ApiError::internal(&format!("serializing a job: {error}")))?;
    let etag = etag(&body);
    let is_unchanged = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| lists_etag(value, &etag));
    let mut response = if is_unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    // An entity tag is ASCII, so this never fails.
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    let (name, value) = no_cache();
    response.headers_mut().insert(name, value);
    Ok(response)
}

/// A weak entity tag. It may differ between builds, which costs a client one full response.
fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// `DELETE /v1/jobs/{id}`: cancels a job. Cancelling it again is not an error.
///
/// The outcome `cancelled` is stored first, so no later result of a worker counts. The job then leaves the queue, or
/// the decoding batch of its worker.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let handle = parse_handle(&id)?;
    let current = lookup::job(&state, &caller, &handle).await?;
    if current.status.is_final() {
        return cancelled_or_error(current);
    }
    match submit::cancel(&state, &handle).await? {
        Some(TerminationOutcome::Terminated(result)) => {
            tracing::info!(job = %view::handle_of(&result), "job cancelled by its client");
            Ok(Json(view::ended(*result)))
        }
        Some(TerminationOutcome::AlreadyFinished(result)) => cancelled_or_error(view::ended(*result)),
        // The job has ended since the lookup, or is gone.
        None => cancelled_or_error(lookup::job(&state, &caller, &handle).await?),
    }
}

/// The response for a job that this request did not cancel.
fn cancelled_or_error(view: JobView) -> Result<Json<JobView>, ApiError> {
    match view.status {
        Status::Cancelled => Ok(Json(view)),
        // The job is moving between queue and worker, or it runs under a sequence that no worker has reported.
        Status::Queued | Status::Running => Err(ApiError::new(
            ErrorCode::QueueUnavailable,
            format!(
                "job `{}` can't be found in the queue at the moment; repeat the request with the id and sequence that \
                 the job was accepted with",
                view.id
            ),
        )
        .of_job(view.id)),
        status => {
            let shown = serde_json::to_value(status).unwrap_or_default();
            let message = format!(
                "job `{}` has already ended: {}",
                view.id,
                shown.as_str().unwrap_or_default()
            );
            Err(ApiError::new(ErrorCode::JobFinished, message)
                .of_job(view.id)
                .in_state(status))
        }
    }
}

/// `POST /v1/jobs/{id}/reference`: stores a late reference. The monitor then scores the job's prediction again.
pub(crate) async fn submit_reference(
    State(state): State<AppState>,
    Extension(trace): Extension<TraceContext>,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<SubmitReference>,
) -> Result<(StatusCode, Json<ReferenceAccepted>), ApiError> {
    let handle = parse_handle(&id)?;
    validate_reference(&body, state.limits().max_reference_chars)?;
    state.queue().require_durable("a late reference")?;
    let tenant = tenant_of(&state, &caller, &handle).await?;
    let received_at = clock::now();
    let reference = LateReference {
        id: handle.id.clone(),
        tenant,
        reference: body.reference,
        received_at,
    };
    state.queue().publish_reference(&reference, &trace).await?;
    let accepted = ReferenceAccepted {
        job_id: handle.to_string(),
        reference_chars: reference.reference.chars().count() as u64,
        received_at,
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

fn validate_reference(body: &SubmitReference, max: usize) -> Result<(), Refusal> {
    if body.reference.trim().is_empty() {
        return Err(Refusal::new(
            ErrorCode::EmptyText,
            "reference is empty or only white space",
        ));
    }
    let chars = body.reference.chars().count();
    if chars > max {
        return Err(Refusal::new(
            ErrorCode::TextTooLong,
            format!("reference has {chars} characters; {max} are allowed"),
        ));
    }
    Ok(())
}

/// Returns the tenant of a job, from its result, the queue or the analytics database.
///
/// # Errors
/// If the job does not exist, can no longer be scored, or belongs to another tenant.
async fn tenant_of(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<Token, Refusal> {
    let visible = |tenant: Option<Token>| tenant.filter(|tenant| caller.may_see(tenant));
    let result = state.queue().result(&handle.id, ReadConsistency::Any).await?;
    if let Some(tenant) = visible(result.map(|result| result.tenant)) {
        return Ok(tenant);
    }
    match visible(tenant_in_queue(state, handle).await?) {
        Some(tenant) => Ok(tenant),
        None => tenant_in_analytics(state, caller, handle).await,
    }
}

async fn tenant_in_queue(state: &AppState, handle: &JobHandle) -> Result<Option<Token>, Refusal> {
    let Some(sequence) = handle.sequence else {
        return Ok(None);
    };
    let queued = state.queue().queued_job(&handle.id, sequence).await?;
    Ok(queued.map(|queued| queued.subject.tenant))
}

async fn tenant_in_analytics(
    state: &AppState,
    caller: &Caller,
    handle: &JobHandle,
) -> Result<Token, Refusal> {
    let prediction = state.analytics().prediction(&handle.id).await?;
    match prediction.filter(|prediction| caller.may_see(&prediction.tenant)) {
        Some(prediction) if prediction.has_summary => Ok(prediction.tenant),
        Some(_) => Err(Refusal::new(
            ErrorCode::JobGone,
            format!(
                "the summary of job `{handle}` is no longer kept, so a reference can't be compared with it"
            ),
        )),
        // The job may have ended or started since the other lookups.
        None => lookup::job(state, caller, handle)
            .await
            .map(|_| caller.tenant().clone()),
    }
}
