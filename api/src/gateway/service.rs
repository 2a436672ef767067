//! The routes of the gateway itself: entry points, health, metrics, error pages and the API's own documentation.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use precis_runtime::admin::{self, Readiness};
use precis_schemas::ErrorCode::{QueueUnavailable, RouteNotFound};
use serde_json::{Value, json};

use super::state::AppState;
use crate::console::routes as console;
use crate::http::error_pages;
use crate::http::problem::ApiError;
use crate::openapi::schema::{name, object, text};
use crate::openapi::{Operation, Route, Tag, ui};

/// Returns all of them. `document` returns the OpenAPI document.
pub(crate) fn endpoints(readiness: &Readiness, document: fn() -> &'static str) -> Vec<Route<AppState>> {
    let mut routes = health(readiness);
    routes.extend(documentation(document));
    routes
}

/// An operation that needs no key.
fn open(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Service, id, summary).without_key()
}

fn health(readiness: &Readiness) -> Vec<Route<AppState>> {
    let readiness = readiness.clone();
    vec![
        Route::new("/healthz").get(
            admin::healthz,
            open("isAlive", "Check whether the process is alive").returns_as(
                200,
                "It is",
                "text/plain",
                text,
            ),
        ),
        Route::new("/readyz").get(
            move || admin::readyz(State(readiness.clone())),
            open("isReady", "Check whether the gateway can take requests")
                .returns_as(200, "It can", "text/plain", text)
                .errors(&[QueueUnavailable]),
        ),
        Route::new("/metrics").get(
            metrics,
            Operation::new(Tag::Service, "metrics", "Get metrics in Prometheus' text format").returns_as(
                200,
                "The metrics",
                "text/plain",
                text,
            ),
        ),
    ]
}

/// `GET /metrics`, with the current queue depth.
async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    state.report_queue().await;
    admin::metrics().await
}

fn documentation(document: fn() -> &'static str) -> Vec<Route<AppState>> {
    vec![
        Route::new("/").get(
            home,
            open("home", "Get the name, version and entry points, or the console")
                .describe("A browser, which accepts `text/html`, gets the console.")
                .returns_as(200, "The entry points", "application/json", object)
                .returns_as(200, "The console", "text/html", text),
        ),
        Route::new("/errors").get(
            error_pages::index,
            open("listErrors", "List the error codes").returns_as(200, "The page", "text/markdown", text),
        ),
        Route::new("/errors/{code}").get(
            error_pages::page,
            open("explainError", "Explain an error code and its remedy")
                .path("code", "The code", name)
                .returns_as(200, "The page", "text/markdown", text)
                .errors(&[RouteNotFound]),
        ),
        Route::new("/openapi.json").get(
            move || async move { ([(header::CONTENT_TYPE, "application/json")], document()).into_response() },
            open("openapi", "Get this document").returns_as(200, "OpenAPI 3.1", "application/json", object),
        ),
        Route::new("/docs").get(
            ui::page,
            open("docs", "Browse this document in Swagger UI").returns_as(200, "The page", "text/html", text),
        ),
        Route::new("/docs/{file}").get(
            ui::asset,
            open("docsFile", "Get a file of Swagger UI")
                .path("file", "The file", name)
                .returns_as(200, "The script", "text/javascript", text)
                .returns_as(200, "The stylesheet", "text/css", text)
                .errors(&[RouteNotFound]),
        ),
    ]
}

/// `GET /`: the console for browsers, the entry points for others.
async fn home(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, ApiError> {
    if console::prefers_page(&headers) {
        return console::page(&state, &headers);
    }
    let vary = (header::VARY, HeaderValue::from_static("accept"));
    Ok(([vary], entry_points()).into_response())
}

fn entry_points() -> Json<Value> {
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
