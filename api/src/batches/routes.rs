//! `POST /v1/batches`, `GET /v1/batches/{id}`, `GET /v1/batches/{id}/results`.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{GenerationParams, JobId, Lane};
use serde::Deserialize;

use crate::access::Caller;
use crate::batches::{self, Format, Options, Taken};
use crate::http::extract::Query;
use crate::http::layers::no_cache;
use crate::http::problem::ApiError;
use crate::jobs::idempotency::{self, Key};
use crate::state::AppState;

/// Query of `POST /v1/batches`: what all rows have in common.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmitQuery {
    model: Option<String>,
    priority: Option<Lane>,
    ttl_seconds: Option<u64>,
    /// Generation parameters as a JSON object.
    params: Option<String>,
    callback_url: Option<String>,
}

/// Takes a batch: 202 when every row is queued or refused.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Query(query): Query<SubmitQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    state.queue().require_durable("a batch")?;
    let params: GenerationParams = match &query.params {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!("params is no JSON object of generation parameters: {error}"),
            )
        })?,
        None => GenerationParams::default(),
    };
    let options = Options {
        model: query.model,
        priority: query.priority,
        ttl_seconds: query.ttl_seconds,
        params,
        callback_url: query.callback_url,
    };
    // What the upload says is known at its end; the query is known now.
    let key = Key::read(request.headers(), caller.tenant(), "/v1/batches", &options)?;
    let taken = batches::take(state.clone(), caller.clone(), options, key, request, trace).await?;
    let (head, is_replayed) = match taken {
        Taken::Now(head) => (head, false),
        Taken::Before(head) => (head, true),
    };
    // Its rows are queued: whatever can't be looked up now, the client must learn the id.
    let view = match batches::view(&state, &caller, &head).await {
        Ok(view) => view,
        Err(refusal) if is_replayed => return Err(refusal.into()),
        Err(refusal) => {
            tracing::warn!(batch = %head.id, %refusal, "a batch was accepted, and can't be looked at");
            batches::view_of_head(&state, &head)
        }
    };
    let mut response = (StatusCode::ACCEPTED, Json(&view)).into_response();
    // An id is plain ASCII, so that it can't fail.
    if let Ok(location) = HeaderValue::from_str(&view.links.this) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    if is_replayed {
        let (name, value) = idempotency::REPLAYED;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

fn id_of(text: &str) -> Result<JobId, ApiError> {
    text.parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))
}

/// How far a batch has come.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let head = batches::head(state.queue(), caller.tenant(), &id_of(&id)?).await?;
    let view = batches::view(&state, &caller, &head).await?;
    Ok(([no_cache()], Json(view)).into_response())
}

/// Query of `GET /v1/batches/{id}/results`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultsQuery {
    format: Option<String>,
}

/// The results, in the order of the rows.
pub(crate) async fn results(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ResultsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = Format::wanted(query.format.as_deref(), &headers)?;
    let head = batches::head(state.queue(), caller.tenant(), &id_of(&id)?).await?;
    let body = Body::from_stream(batches::stream(state, caller, head, format));
    let media_type = HeaderValue::from_static(format.media_type());
    Ok(([(header::CONTENT_TYPE, media_type), no_cache()], body).into_response())
}
