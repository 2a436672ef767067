//! Which route goes where, and the layers around all of them.

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::routing::{get, post};
use precis_runtime::admin::{self, Readiness};
use precis_schemas::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;

use crate::layers;
use crate::problem::ApiError;
use crate::routes::{article, errors, home, jobs, summaries};
use crate::state::AppState;

/// The whole interface.
pub(crate) fn router(state: AppState, readiness: Readiness) -> Router {
    let routes = Router::new()
        .route("/", get(home::home))
        .route("/v1/summaries", post(summaries::submit))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/models", get(home::models))
        .route("/article/summarize", post(article::summarize))
        .route("/article/summarize_batch", post(article::summarize_batch))
        .route("/errors", get(errors::index))
        .route("/errors/{code}", get(errors::page))
        .with_state(state)
        .merge(admin::routes(readiness));
    layered(routes.fallback(nothing_here))
}

/// `routes` inside of the layers: the last one is the outermost.
fn layered(routes: Router) -> Router {
    routes
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(middleware::from_fn(layers::observe))
}

async fn nothing_here(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(ErrorCode::RouteNotFound, format!("there is nothing at {path}"))
}

#[cfg(test)]
mod tests;
