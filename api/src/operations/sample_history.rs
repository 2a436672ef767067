//! `/v1/sample-history`: sample predictions that fill every chart.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use precis_schemas::monitor_request::MonitorRequest;
use precis_schemas::rest_operations::SampleHistory;

use super::monitor;
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::problem::ApiError;

async fn ask(state: &AppState, caller: &Caller, request: MonitorRequest) -> Result<Response, ApiError> {
    // Figures of every tenant contain the history.
    caller.require_all_tenants()?;
    state.queue().require_durable("the sample history")?;
    let stored: SampleHistory = monitor::ask(state, request).await?;
    Ok(([no_cache()], Json(stored)).into_response())
}

/// Returns what is stored of the history.
pub(super) async fn show(State(state): State<AppState>, caller: Caller) -> Result<Response, ApiError> {
    ask(&state, &caller, MonitorRequest::SampleHistory).await
}

/// Loads the history. Loading it again has no effect.
pub(super) async fn load(State(state): State<AppState>, caller: Caller) -> Result<Response, ApiError> {
    ask(&state, &caller, MonitorRequest::LoadSampleHistory).await
}

/// Removes the history. Removing it again has no effect.
pub(super) async fn remove(State(state): State<AppState>, caller: Caller) -> Result<Response, ApiError> {
    ask(&state, &caller, MonitorRequest::RemoveSampleHistory).await
}
