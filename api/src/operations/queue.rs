//! `GET /v1/queue`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use precis_schemas::rest_operations::{LaneView, QueueView};

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::problem::ApiError;
use crate::queue::eta;

/// Returns the depth of every lane and the live workers.
pub(super) async fn show(State(state): State<AppState>, caller: Caller) -> Result<Response, ApiError> {
    let depth = state.depth().await?;
    let workers = state.workers().live();
    let mut lanes = Vec::with_capacity(depth.lanes.len());
    for lane in &depth.lanes {
        // A tenant learns nothing about the others.
        let jobs = match caller.sees_all() {
            true => lane.jobs,
            false => lane.tenants.get(caller.tenant()).copied().unwrap_or_default(),
        };
        let oldest_at = match caller.sees_all() && jobs > 0 {
            true => state.queue().oldest_job(&lane.model, lane.lane).await?,
            false => None,
        };
        lanes.push(LaneView {
            model: lane.model.clone(),
            lane: lane.lane,
            jobs,
            oldest_at,
            drain_seconds: eta::pace(state.workers(), &lane.model, lane.lane).map(|pace| jobs as f64 / pace),
        });
    }
    lanes.sort_by(|a, b| (&a.model, a.lane).cmp(&(&b.model, b.lane)));
    Ok(([no_cache()], Json(QueueView { lanes, workers })).into_response())
}
