//! `POST /v1/scores` and `GET /v1/scores/{id}`.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::HeaderMap;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::rest::{JobView, ScoreReport, SubmitScores, SubmitSummary};
use precis_schemas::{Channel, JobHandle, JobId, Token};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::submission::{Call, look_at};
use crate::access::Caller;
use crate::http::extract::{JsonBody, Query};
use crate::http::problem::ApiError;
use crate::jobs::group;
use crate::jobs::report::report;
use crate::jobs::routes::Params;
use crate::jobs::submit;
use crate::queue::CreateOutcome;
use crate::state::AppState;
use crate::watch::wait;

/// Scores pairs: 200 with the report, or 202 with what there is of it when the client waits no longer.
///
/// This route answers with the scores themselves: without a preference it waits `api.sync_wait_seconds`.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SubmitScores>,
) -> Result<Response, ApiError> {
    let patience = Duration::from_secs(state.api().sync_wait_seconds);
    let call = Call::read(&state, &caller, &headers, "/v1/scores", &body, patience)?;
    let jobs = call.submit(prepare(&state, &caller, body, &trace)).await?;
    let about = jobs.about();
    let batch = jobs
        .batch
        .ok_or_else(|| ApiError::internal("scores without a batch"))?;
    remember(&state, &caller, &batch, &jobs.handles).await;
    let report = report_of(&batch, jobs.views).await?;
    Ok(about.respond(report.done, &report, Some(&report.links.this)))
}

/// The jobs that a body asks for, checked.
async fn prepare(
    state: &AppState,
    caller: &Caller,
    body: SubmitScores,
    trace: &TraceContext,
) -> Result<Vec<Submission>, ApiError> {
    group::check_count("pairs", body.pairs.len(), state.limits().max_batch_texts)?;
    let common = SubmitSummary {
        params: body.params,
        model: body.model,
        priority: body.priority,
        deadline: body.deadline,
        ttl_seconds: body.ttl_seconds,
        metadata: body.metadata,
        ..SubmitSummary::default()
    };
    for (index, pair) in body.pairs.iter().enumerate() {
        let problem = match (&pair.text, &pair.summary) {
            (Some(_), Some(_)) => "text and summary exclude each other; send one of them",
            (None, None) => "there is neither a text nor a summary",
            _ => continue,
        };
        let message = format!("pairs[{index}]: {problem}");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let places = BatchRef::all(&JobId::generate(), body.pairs.len() as u64);
    let requests = places.zip(body.pairs).map(|(place, pair)| submit::Request {
        scoring: Some(submit::Scoring {
            summary: pair.summary,
            stemmed: body.stemmed,
        }),
        id: place.job_id(),
        batch: Some(place),
        ..submit::Request::of(
            Channel::Api,
            SubmitSummary {
                text: pair.text,
                reference: Some(pair.reference),
                ..common.clone()
            },
        )
    });
    group::prepare(state, caller, "pairs", requests, trace).await
}

/// Name of what is remembered of a batch: another one for each tenant, so that a batch of somebody else is none.
fn record_of(tenant: &Token, batch: &JobId) -> Token {
    let mut hasher = Sha256::new();
    for part in ["scores", tenant.as_str(), batch.as_str()] {
        hasher.update(part);
        // No part has such a byte: it tells where each ends.
        hasher.update([0]);
    }
    let digits: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Token::sanitized(&digits)
}

/// Writes down which jobs a batch has, so that its report can be asked for. Without it the answer to this request is as
/// good, and each job can be asked for.
async fn remember(state: &AppState, caller: &Caller, batch: &JobId, handles: &[JobHandle]) {
    let handles: Vec<String> = handles.iter().map(JobHandle::to_string).collect();
    // A list of texts always has a JSON form.
    let body = serde_json::to_vec(&handles).unwrap_or_default();
    let name = record_of(caller.tenant(), batch);
    match state.queue().create_record(&name, body.into()).await {
        Ok(CreateOutcome::Created(_) | CreateOutcome::Exists(_)) => {}
        Err(refusal) => tracing::warn!(%batch, %refusal, "a batch of scores can't be remembered"),
    }
}

/// The report of a batch. Its interval takes a thousand draws of all pairs: other requests don't wait for that.
async fn report_of(batch: &JobId, views: Vec<JobView>) -> Result<ScoreReport, ApiError> {
    let batch = batch.clone();
    tokio::task::spawn_blocking(move || report(&batch, views))
        .await
        .map_err(|error| ApiError::internal(&format!("a report: {error}")))
}

/// Shows the report of a batch, perhaps after waiting for its end.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(params): Query<Params>,
) -> Result<Json<ScoreReport>, ApiError> {
    let batch: JobId = id
        .parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))?;
    let until = Instant::now() + wait::bounded(params.wait.unwrap_or(0), state.limits())?;
    let Some(record) = state.queue().record(&record_of(caller.tenant(), &batch)).await? else {
        return Err(ApiError::new(
            ErrorCode::JobNotFound,
            format!("there is no batch of scores `{batch}`, or none any more"),
        ));
    };
    let unreadable = |error: &dyn std::fmt::Display| ApiError::internal(&format!("batch {batch}: {error}"));
    let handles: Vec<String> = serde_json::from_slice(&record.body).map_err(|error| unreadable(&error))?;
    let handles: Result<Vec<JobHandle>, _> = handles.iter().map(|handle| handle.parse()).collect();
    let handles = handles.map_err(|error| unreadable(&error))?;
    let views = look_at(&state, &caller, &handles, until).await?;
    report_of(&batch, views).await.map(Json)
}
