//! The monitoring service over HTTP, on `monitor.listen`: predictions of others are logged here, samples drawn, and the
//! history shown, under the names of the service that this one replaces.
//!
//! | route | what |
//! | --- | --- |
//! | `POST /db/init` | the schema, the sample pairs, and a sample history |
//! | `POST /log/online`, `/log/batch` | predictions made elsewhere |
//! | `GET /sample/pair`, `/sample/pairs` | articles with their reference, at random |
//! | `GET /history/list`, `/history/count`, `/history/score` | what is kept |
//!
//! With keys in the configuration each of them needs one (`guard.rs`).
//!
//! What is logged goes through the stream of results and the sinks, as every other prediction does.

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
use axum::routing::{get, post};
use precis_runtime::config::AccessConfig;

pub(crate) use state::Service;

/// Largest body that is read: a batch of articles.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The routes.
pub(crate) fn routes(service: Service, access: &AccessConfig) -> Router {
    let guard = Arc::new(guard::Guard::new(access));
    Router::new()
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
        .with_state(service)
}
