//! The REST interface: the routes of every area inside the layers. Only this file names all areas.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Request;
use precis_runtime::admin::Readiness;
use precis_runtime::browser_guard::BrowserGuard;
use precis_schemas::ErrorCode;

use super::state::AppState;
use super::{layers, service};
use crate::http::problem::ApiError;
use crate::openapi::{self, Route};
use crate::{analytics, batches, compat, console, jobs, operations};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi::text(&routes(&Readiness::default())));

/// Returns every route with its documentation.
pub(crate) fn routes(readiness: &Readiness) -> Vec<Route<AppState>> {
    let mut routes = jobs::endpoints::all();
    routes.extend(batches::endpoints::all());
    routes.extend(analytics::endpoints::all());
    routes.extend(operations::endpoints::all());
    routes.extend(compat::endpoints::all(readiness));
    routes.extend(console::endpoints::all());
    routes.extend(service::endpoints(readiness, || DOCUMENT.as_str()));
    routes
}

/// Returns the whole interface.
///
/// `browsers` refuses requests of foreign web pages.
pub(crate) fn router(state: AppState, readiness: &Readiness, browsers: Option<BrowserGuard>) -> Router {
    let gate = state.gate().clone();
    let http = state.http().clone();
    let routes = routes(readiness)
        .into_iter()
        .fold(Router::new(), |router, route| route.add_to(router))
        .fallback(not_found)
        .with_state(state);
    layers::wrap(routes, gate, &http, browsers, compat::ERROR_FORMATS)
}

async fn not_found(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(ErrorCode::RouteNotFound, format!("there is no route {path}"))
}
