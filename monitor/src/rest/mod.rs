//! The monitoring service over HTTP, on `monitor.listen`: logs predictions made elsewhere, returns samples, and shows
//! the history. Routes and fields keep the names of the service that this one replaces.
//!
//! | route | purpose |
//! | --- | --- |
//! | `POST /db/init` | sets up the schema, loads sample pairs and the sample history |
//! | `POST /log/online`, `/log/batch` | logs predictions made elsewhere |
//! | `GET /sample/pair`, `/sample/pairs` | returns random articles with their references |
//! | `GET /history/list`, `/history/count`, `/history/score` | returns stored predictions, counts and scores |
//!
//! If the configuration has API keys, every route needs one (`guard.rs`).
//!
//! Logged predictions pass through the stream `RESULTS` and the sinks, like all others.

mod body;
mod external;
mod guard;
mod history;
mod log;
mod problem;
mod samples;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use precis_runtime::Config;
use precis_runtime::browser_guard::BrowserGuard;

pub(crate) use state::RestState;

/// Largest request body: a batch of articles.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Returns the routes.
pub(crate) fn routes(state: RestState, config: &Config) -> Router {
    let guard = Arc::new(guard::Guard::new(&config.access));
    let routes = Router::new()
        .route("/db/init", post(samples::init))
        .route("/log/online", post(log::online))
        .route("/log/batch", post(log::batch))
        .route("/sample/pair", get(samples::pair))
        .route("/sample/pairs", get(samples::pairs))
        .route("/history/list", get(history::list))
        .route("/history/count", get(history::count))
        .route("/history/score", get(history::score))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state);
    match BrowserGuard::unless_keys(&config.http, &config.access) {
        Some(guard) => guard.wrap(routes, |refusal| {
            problem::ProblemResponse(refusal).into_response()
        }),
        None => routes,
    }
}
