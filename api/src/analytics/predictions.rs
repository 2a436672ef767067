//! `GET /v1/predictions` and `GET /v1/predictions/{id}`: the predictions in the analytics database.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use precis_schemas::queries::{self, NamedQuery};
use precis_schemas::{ErrorCode, JobHandle};
use serde::Deserialize;
use serde_json::Value;

use super::Format;
use super::routes::respond;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::extract::Query;
use crate::http::problem::ApiError;

/// The query behind the list.
pub(super) static LIST: LazyLock<NamedQuery> = LazyLock::new(queries::predictions);

/// Lists predictions, the latest first.
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(given): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let without_value =
        |(name, value): &&(String, String)| name == "metadata" && !value.is_empty() && !value.contains('=');
    if let Some((_, value)) = given.iter().find(without_value) {
        let shown: String = value.chars().take(80).collect();
        return Err(ApiError::new(
            ErrorCode::InvalidParameter,
            format!("metadata must be name=value, not {shown:?}"),
        ));
    }
    respond(&state, &caller, &LIST, given, &headers).await
}

/// Rows in ClickHouse's format `JSON`.
#[derive(Deserialize)]
struct Rows {
    data: Vec<Value>,
}

/// Returns the prediction of a job.
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let handle: JobHandle = id
        .parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))?;
    let tenant = match caller.sees_all() {
        true => String::new(),
        false => caller.tenant().to_string(),
    };
    let sequence = handle.sequence.map(|sequence| sequence.to_string());
    let values = [
        ("id".to_owned(), handle.id.to_string()),
        ("sequence".to_owned(), sequence.unwrap_or_default()),
        ("tenant".to_owned(), tenant),
    ];
    let body = state
        .analytics()
        .run(&queries::prediction(), &values, Format::Json)
        .await?;
    let rows: Rows = serde_json::from_slice(&body)
        .map_err(|error| ApiError::internal(&format!("reading a prediction: {error}")))?;
    let Some(row) = rows.data.into_iter().next() else {
        return Err(ApiError::new(
            ErrorCode::JobNotFound,
            format!("the analytics database has no prediction of job `{handle}`"),
        ));
    };
    Ok(([no_cache()], Json(row)).into_response())
}
