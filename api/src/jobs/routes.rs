//! `GET` and `DELETE /v1/jobs/{id}`.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use precis_schemas::JobHandle;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::rest::JobView;
use serde::Deserialize;
use tokio::time::Instant;

use crate::access::Caller;
use crate::http::extract::Query;
use crate::http::layers::no_cache;
use crate::http::problem::ApiError;
use crate::jobs::cancel;
use crate::jobs::lookup;
use crate::state::AppState;
use crate::watch::wait;

/// Query of `GET /v1/jobs/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Answer when the job has ended, or after this many seconds.
    pub(crate) wait: Option<u64>,
}

/// The job that a path names.
pub(crate) fn handle_of(id: &str) -> Result<JobHandle, ApiError> {
    id.parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))
}

/// Cancels a job, and shows it.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let handle = handle_of(&id)?;
    cancel::job(&state, &caller, &handle).await.map(Json)
}

/// Shows a job, perhaps after waiting for its end.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let handle = handle_of(&id)?;
    let patience = wait::bounded(params.wait.unwrap_or(0), state.limits())?;
    let view = if patience.is_zero() {
        lookup::job(&state, &caller, &handle).await?
    } else {
        lookup::job_by(&state, &caller, &handle, Instant::now() + patience).await?
    };
    let body = serde_json::to_vec(&view)
        .map_err(|error| ApiError::internal(&format!("a job that can't be written: {error}")))?;
    let tag = entity_tag(&body);
    let seen = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| matches(value, &tag));
    let mut response = if seen {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    // Digits and quotes, so that it can't fail.
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    let (name, value) = no_cache();
    response.headers_mut().insert(name, value);
    Ok(response)
}

/// A weak tag of a body. Another version of the program may make another one; that costs one answer.
fn entity_tag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// Weak comparison with a list of tags (RFC 9110, 13.1.2).
fn matches(header: &str, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.trim() == "*" || header.split(',').any(|other| opaque(other) == opaque(tag))
}
