//! The interface of MLflow's scoring server: `/invocations`, `/ping`, `/health`, `/version`, and its errors.
//!
//! The model has one input column, `article`, and one output column, `summarization`.

pub(crate) mod error;
pub(crate) mod frame;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use precis_runtime::admin::Readiness;
use serde::Serialize;

use crate::http::problem::Rendered;
use crate::state::AppState;

/// The version of MLflow whose scoring server these routes behave like.
const MLFLOW_VERSION: &str = "3.17.2";

/// Answer of `POST /invocations`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Predictions {
    predictions: Vec<Prediction>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Prediction {
    summarization: String,
}

impl Predictions {
    /// The summaries as rows of the output column.
    pub(crate) fn of(summaries: Vec<String>) -> Self {
        let row = |summarization| Prediction { summarization };
        Self {
            predictions: summaries.into_iter().map(row).collect(),
        }
    }
}

/// `GET /ping` and `GET /health`: 200 when the default model can be asked, 404 when nobody serves it, 503 when
/// the queue is away. A SageMaker container is asked the same.
pub(crate) async fn ping(
    State(state): State<AppState>,
    Extension(readiness): Extension<Readiness>,
) -> Response {
    let status = if !readiness.get() {
        StatusCode::SERVICE_UNAVAILABLE
    } else if serves_default_model(&state).await {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    };
    bare(status, "\n")
}

/// Whether the default model is served, as far as can be told without waiting.
async fn serves_default_model(state: &AppState) -> bool {
    let name = &state.api().default_model;
    if state.workers().resolve(name).is_some() {
        return true;
    }
    match (precis_schemas::Token::new("the model", name), state.depth().await) {
        (Ok(token), Ok(depth)) => depth.has_consumers_of(&token),
        _ => false,
    }
}

/// `GET /version`: the bare text, under MLflow's content type.
pub(crate) async fn version() -> Response {
    bare(StatusCode::OK, MLFLOW_VERSION)
}

/// Any other method on these paths, as MLflow's server says it.
pub(crate) async fn method_not_allowed() -> Response {
    bare(
        StatusCode::METHOD_NOT_ALLOWED,
        r#"{"detail":"Method Not Allowed"}"#,
    )
}

fn bare(status: StatusCode, body: &'static str) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, Extension(Rendered), body).into_response()
}
