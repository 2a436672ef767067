//! `GET /v1/queue`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use precis_schemas::event::Heartbeat;
use precis_schemas::rest_operations::{LaneView, QueueView};

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::problem::ApiError;
use crate::queue::LaneDepth;

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
            drain_seconds: drain_seconds(&workers, lane, jobs),
        });
    }
    lanes.sort_by(|a, b| (&a.model, a.lane).cmp(&(&b.model, b.lane)));
    Ok(([no_cache()], Json(QueueView { lanes, workers })).into_response())
}

/// Returns how long the lane's live workers need for `jobs` if they do nothing else, in seconds.
fn drain_seconds(workers: &[Heartbeat], lane: &LaneDepth, jobs: u64) -> Option<f64> {
    let serves =
        |worker: &&Heartbeat| worker.model.served_as == lane.model && worker.lanes.contains(&lane.lane);
    let paces = workers.iter().filter(serves).filter_map(|worker| worker.pace);
    let pace: f64 = paces.map(|pace| pace.jobs_per_second).sum();
    (pace > 0.0).then(|| jobs as f64 / pace)
}
