//! `POST /v1/batches`, `GET` and `DELETE /v1/batches/{id}`, and `GET /v1/batches/{id}/results`.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::batch_view::BatchView;
use precis_schemas::decode_error::explain_field;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::manifest::BatchHead;
use precis_schemas::{GenerationParams, JobId, JobSubject, Lane, strict_json};
use serde::Deserialize;
use tracing::Instrument as _;

use super::ingest::{Ingested, ingest};
use super::options::BatchOptions;
use super::progress::BatchProgress;
use super::results::{self, ResultFormat};
use super::store;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::extract::Query;
use crate::http::problem::ApiError;
use crate::jobs::idempotency::{self, IdempotencyKey};
use crate::queue::eta::{self, Estimate};

/// Query of `POST /v1/batches`: the options of all rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmitQuery {
    model: Option<String>,
    priority: Option<Lane>,
    ttl_seconds: Option<u64>,
    /// Generation parameters as a JSON object.
    params: Option<String>,
    callback_url: Option<String>,
    id_column: Option<String>,
    /// Names of columns, separated by commas.
    columns: Option<String>,
}

/// `POST /v1/batches`: receives an upload. Responds 202 once every row is queued or refused.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Query(query): Query<SubmitQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    state.queue().require_durable("a batch")?;
    let params: GenerationParams = match &query.params {
        Some(text) => strict_json::from_str(text).map_err(|error| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!(
                    "params is not a JSON object of generation parameters: {}",
                    explain_field::<GenerationParams>(text.as_bytes(), &error)
                ),
            )
        })?,
        None => GenerationParams::default(),
    };
    let options = BatchOptions {
        model: query.model,
        priority: query.priority,
        ttl_seconds: query.ttl_seconds,
        params,
        callback_url: query.callback_url,
        id_column: query.id_column,
        columns: query.columns.map(|names| {
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        }),
    };
    // The content of the upload is compared at its end.
    let key = IdempotencyKey::read(request.headers(), caller.tenant(), "/v1/batches", &options)?;
    let ingested = ingest(state.clone(), caller.clone(), options, key, request, trace).await?;
    let (head, is_replayed) = match ingested {
        Ingested::New(head) => (head, false),
        Ingested::Replayed(head) => (head, true),
    };
    // The rows of a new batch are queued, so the client must learn its id even if this lookup fails.
    let view = match view(&state, &caller, &head).await {
        Ok(view) => view,
        Err(refusal) if is_replayed => return Err(refusal.into()),
        Err(refusal) => {
            tracing::warn!(batch = %head.id, %refusal, "could not look up an accepted batch");
            BatchProgress::of_head(&head).view(state.batches(), state.running(), &head, None)
        }
    };
    let mut response = (StatusCode::ACCEPTED, Json(&view)).into_response();
    // An id is ASCII, so this never fails.
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

fn parse_id(text: &str) -> Result<JobId, ApiError> {
    text.parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))
}

/// Returns a batch as REST shows it.
///
/// # Errors
/// If the queue can't be reached.
pub(crate) async fn view(state: &AppState, caller: &Caller, head: &BatchHead) -> Result<BatchView, Refusal> {
    let progress = state.batch_progress().get(&head.id);
    let mut progress = progress.lock().await;
    let queue = state.queue();
    progress.read_rows(queue, caller.tenant(), head).await?;
    let subject: Option<JobSubject> = head.subject.parse().ok();
    let depth = async {
        match &subject {
            Some(subject) => state.tenant_depth(subject).await,
            None => Ok(None),
        }
    };
    progress.refresh_if_due(queue, depth, head).await?;
    let estimate = match (subject, progress.last_open_sequence()) {
        (Some(subject), Some(sequence)) => {
            // Without it, the counts are still worth an answer.
            estimate(state, &subject, sequence).await.unwrap_or_default()
        }
        _ => None,
    };
    Ok(progress.view(state.batches(), state.running(), head, estimate))
}

/// Estimates when the row at `sequence` ends.
async fn estimate(
    state: &AppState,
    subject: &JobSubject,
    sequence: u64,
) -> Result<Option<Estimate>, Refusal> {
    let Some(own) = state.tenant_depth(subject).await? else {
        return Ok(None);
    };
    let depth = state.depth().await?;
    Ok(eta::estimate(&depth, &own, state.workers(), subject, sequence))
}

/// `GET /v1/batches/{id}`: returns the progress of a batch.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let head = store::head(state.queue(), caller.tenant(), &parse_id(&id)?).await?;
    let view = view(&state, &caller, &head).await?;
    Ok(([no_cache()], Json(view)).into_response())
}

/// `DELETE /v1/batches/{id}`: cancels the rows that have not ended. Doing so again is not an error.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BatchView>, ApiError> {
    let head = store::head(state.queue(), caller.tenant(), &parse_id(&id)?).await?;
    // In its own task: a large batch takes a while, and its rows must end even if the client disconnects.
    let work = async move {
        let progress = state.batch_progress().get(&head.id);
        {
            let mut progress = progress.lock().await;
            progress.read_rows(state.queue(), caller.tenant(), &head).await?;
            progress.cancel(&state, &head).await?;
        }
        tracing::info!(batch = %head.id, "batch cancelled by its client");
        view(&state, &caller, &head).await
    };
    let done = tokio::spawn(work.in_current_span()).await;
    let view = done
        .unwrap_or_else(|error| Err(ApiError::internal(&format!("cancelling a batch: {error}")).refusal()));
    Ok(Json(view?))
}

/// Query of `GET /v1/batches/{id}/results`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultsQuery {
    format: Option<String>,
}

/// `GET /v1/batches/{id}/results`: streams the results in row order.
pub(crate) async fn results(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ResultsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = ResultFormat::negotiate(query.format.as_deref(), &headers)?;
    let head = store::head(state.queue(), caller.tenant(), &parse_id(&id)?).await?;
    let body = Body::from_stream(results::stream(state, caller, head, format));
    let media_type = HeaderValue::from_static(format.media_type());
    Ok(([(header::CONTENT_TYPE, media_type), no_cache()], body).into_response())
}
