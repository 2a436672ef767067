//! The API of MLflow's scoring server: `/invocations`, `/ping`, `/health`, `/version`, and its errors.
//!
//! The model has one input column, `article`, and one output column, `summarization`.

pub(crate) mod csv_table;
pub(crate) mod error;
mod python_json;
#[cfg(test)]
mod replay;
mod split;
pub(crate) mod table;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use precis_runtime::admin::Readiness;
use serde::Serialize;

use crate::gateway::state::AppState;
use crate::http::problem::Rendered;
use crate::jobs::model;

/// The MLflow version that these routes imitate.
const MLFLOW_VERSION: &str = "3.17.2";

/// The response of `POST /invocations`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Predictions {
    predictions: Vec<Prediction>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Prediction {
    summarization: String,
}

impl Predictions {
    /// Converts summaries to rows of the output column.
    pub(crate) fn new(summaries: Vec<String>) -> Self {
        let row = |summarization| Prediction { summarization };
        Self {
            predictions: summaries.into_iter().map(row).collect(),
        }
    }
}

/// `GET /ping` and `GET /health`: 200 if a worker serves the default model, 404 if none does, 503 if the queue is
/// unavailable. SageMaker pings containers the same way.
pub(crate) async fn ping(
    State(state): State<AppState>,
    Extension(readiness): Extension<Readiness>,
) -> Response {
    let status = if !readiness.get() {
        StatusCode::SERVICE_UNAVAILABLE
    } else if model::is_served(&state, &state.api().default_model).await {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    };
    plain(status, "\n")
}

/// `GET /version`: plain text with a JSON content type, as MLflow sends it.
pub(crate) async fn version() -> Response {
    plain(StatusCode::OK, MLFLOW_VERSION)
}

/// The response to a wrong method, as MLflow's server writes it.
pub(crate) async fn method_not_allowed() -> Response {
    plain(
        StatusCode::METHOD_NOT_ALLOWED,
        r#"{"detail":"Method Not Allowed"}"#,
    )
}

fn plain(status: StatusCode, body: &'static str) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, Extension(Rendered), body).into_response()
}
