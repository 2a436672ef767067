//! Which route goes where, and the layers around all of them.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use precis_runtime::admin::{self, Readiness};
use precis_runtime::config::HttpConfig;
use precis_schemas::ErrorCode;

use crate::access::{self, Gate};
use crate::compat::article;
use crate::compat::invocation;
use crate::compat::lambda;
use crate::compat::mlflow;
use crate::compat::sagemaker;
use crate::compat::score;
use crate::http::error_pages;
use crate::http::home;
use crate::http::layers::{self, Guard};
use crate::http::problem::{ApiError, ErrorFormat};
use crate::jobs::references;
use crate::jobs::scores;
use crate::jobs::summaries;
use crate::openapi;
use crate::state::AppState;
use crate::watch::event_stream;
use crate::{analytics, batches, compat, jobs};

/// The whole interface.
pub(crate) fn router(state: AppState, readiness: Readiness) -> Router {
    let gate = state.gate().clone();
    let http = state.http().clone();
    let routes = Router::new()
        .route("/", get(home::home))
        .route("/v1/summaries", post(summaries::submit))
        .route(
            "/v1/jobs/{id}",
            get(jobs::routes::show).delete(jobs::routes::cancel),
        )
        .route("/v1/jobs/{id}/events", get(event_stream::stream))
        .route("/v1/jobs/{id}/reference", post(references::submit))
        .route("/v1/scores", post(scores::submit))
        .route("/v1/scores/{id}", get(scores::show))
        .route("/v1/analytics", get(analytics::routes::list))
        .route("/v1/analytics/{query}", get(analytics::routes::answer))
        .route(
            "/v1/batches",
            post(batches::routes::submit).layer(DefaultBodyLimit::disable()),
        )
        .route("/v1/batches/{id}", get(batches::routes::show))
        .route("/v1/batches/{id}/results", get(batches::routes::results))
        .route("/v1/models", get(home::models))
        .merge(taken_over(&readiness))
        .route("/errors", get(error_pages::index))
        .route("/errors/{code}", get(error_pages::page))
        .route("/openapi.json", get(openapi::serve))
        .route("/docs", get(openapi::page))
        .route("/docs/{file}", get(openapi::asset))
        .with_state(state)
        .merge(admin::routes(readiness));
    layered(routes.fallback(nothing_here), gate, &http, compat::ERROR_FORMATS)
}

/// The routes of the services that Precis takes the place of; their clients change the address and nothing else.
fn taken_over(readiness: &Readiness) -> Router<AppState> {
    let of_mlflow = |methods: MethodRouter<AppState>| methods.fallback(mlflow::other_method);
    let readiness = || Extension(readiness.clone());
    Router::new()
        .route("/article/summarize", post(article::summarize))
        .route("/article/summarize_batch", post(article::summarize_batch))
        .route("/model/score", post(score::score))
        .route("/online-predict", post(lambda::online))
        .route("/batch-predict", post(lambda::batch))
        .route("/score", post(lambda::score))
        .route("/invocations", of_mlflow(post(invocation::invoke)))
        .route("/ping", of_mlflow(get(mlflow::ping)).layer(readiness()))
        .route("/health", of_mlflow(get(mlflow::ping)).layer(readiness()))
        .route("/version", of_mlflow(get(mlflow::version)))
        .route("/endpoints/{name}/invocations", post(sagemaker::invoke))
        .route(
            "/endpoints/{name}/invocations-response-stream",
            post(sagemaker::invoke_stream),
        )
}

/// `routes` inside of the layers: the last one is the outermost. There are few, because a request copies each of them for
/// every one that is around it.
pub(crate) fn layered(
    routes: Router,
    gate: Arc<Gate>,
    http: &HttpConfig,
    error_formats: &'static [ErrorFormat],
) -> Router {
    let guard = Guard {
        gate,
        max_uri_bytes: http.max_uri_bytes,
        error_formats,
    };
    let guarded = routes.layer(middleware::from_fn_with_state(guard, layers::guard));
    // Outside of the gate: a browser asks whether it may send a key before it sends one.
    let guarded = match access::cors(&http.cors_origins) {
        Some(cors) => guarded.layer(cors),
        None => guarded,
    };
    guarded.layer(middleware::from_fn(layers::observe))
}

async fn nothing_here(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(ErrorCode::RouteNotFound, format!("there is nothing at {path}"))
}
