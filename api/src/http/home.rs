//! `GET /` and `GET /v1/models`.

use axum::Json;
use axum::extract::State;
use precis_schemas::rest::ModelList;
use serde_json::{Value, json};

use crate::jobs::model;
use crate::state::AppState;

/// Name, version and entry points.
pub(crate) async fn home() -> Json<Value> {
    Json(json!({
        "name": "precis",
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "summaries": "/v1/summaries",
            "jobs": "/v1/jobs/{id}",
            "events": "/v1/jobs/{id}/events",
            "scores": "/v1/scores",
            "batches": "/v1/batches",
            "models": "/v1/models",
            "analytics": "/v1/analytics",
            "errors": "/errors",
            "ready": "/readyz",
            "metrics": "/metrics",
        },
    }))
}

/// The models that live workers serve.
pub(crate) async fn models(State(state): State<AppState>) -> Json<ModelList> {
    Json(model::list(
        &state.workers().live(),
        &state.api().default_model,
        state.limits(),
    ))
}
