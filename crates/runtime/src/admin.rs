//! The administrative HTTP endpoints of every role: `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutBody;

use crate::browser_guard::BrowserGuard;
use crate::config::HttpConfig;
use crate::{http_server, problem};

/// Whether the role is ready, as `/readyz` reports it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets whether the role is ready.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Reports whether the role is ready.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An address that can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = {address}: {source}{hint}")]
pub struct BindError {
    setting: &'static str,
    address: SocketAddr,
    source: std::io::Error,
    hint: &'static str,
}

/// Binds `address`, the value of `setting`.
///
/// # Errors
/// If the port is in use or not permitted. The error names the setting.
pub async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let taken = source.kind() == std::io::ErrorKind::AddrInUse;
        let hint = if taken {
            "; stop the other instance or set another port"
        } else {
            ""
        };
        BindError {
            setting,
            address,
            source,
            hint,
        }
    })
}

/// Binds `wanted`, the value of `setting`. If it is not set, binds `preferred`, or a free port beside it if another
/// process has that one.
///
/// # Errors
/// As [`bind`].
pub async fn bind_or_free(
    setting: &'static str,
    wanted: Option<SocketAddr>,
    preferred: SocketAddr,
) -> Result<TcpListener, BindError> {
    match bind(setting, wanted.unwrap_or(preferred)).await {
        Err(error) if wanted.is_none() && error.source.kind() == std::io::ErrorKind::AddrInUse => {
            bind(setting, SocketAddr::new(preferred.ip(), 0)).await
        }
        bound => bound,
    }
}

/// Returns a router with the three routes. They need no key, so the guard applies to them.
pub fn routes(readiness: Readiness, guard: BrowserGuard) -> Router {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(readiness);
    guard.wrap(routes, |refusal| problem::response(&refusal))
}

/// `GET /healthz`: 200 while the process can answer at all.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 200 if the role can do its work, else 503.
pub async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.get() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// `GET /metrics`, in Prometheus' text format.
pub async fn metrics() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        crate::telemetry::render_metrics(),
    )
}

/// Serves `router` until `stop` is cancelled, then finishes open requests.
pub async fn serve(listener: TcpListener, router: Router, http: HttpConfig, stop: CancellationToken) {
    let timeout = http.body_timeout();
    let limited = move |request: Request| {
        let limited = request.map(|body| Body::new(TimeoutBody::new(timeout, body)));
        std::future::ready(limited)
    };
    http_server::serve(
        listener,
        router.layer(middleware::map_request(limited)),
        &http,
        stop,
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_replaced_only_if_none_was_asked_for() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = first.local_addr().unwrap();
        let second = bind_or_free("worker.admin_listen", None, taken).await.unwrap();
        assert_ne!(second.local_addr().unwrap().port(), taken.port());
        let asked = bind_or_free("worker.admin_listen", Some(taken), taken).await;
        assert!(asked.unwrap_err().to_string().contains("worker.admin_listen"));
    }
}
