//! The gateway: its state, its router and its server.
//!
//! | file | content |
//! | --- | --- |
//! | `state.rs` | the state that every handler shares |
//! | `router.rs` | joins the routes of all areas inside the layers |
//! | `layers.rs` | the layers: request id, trace, log line, metrics, authentication, error bodies |
//! | `service.rs` | the routes of the gateway itself: health, entry points, error pages, the API's documentation |
//! | `webhook_payload.rs` | renders the end of a job or batch for its webhook |

pub(crate) mod layers;
pub(crate) mod router;
mod service;
pub(crate) mod state;
mod webhook_payload;

use axum::Router;
use precis_runtime::admin::Readiness;
use precis_runtime::config::HttpConfig;
use precis_runtime::http_server;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::state::AppState;
pub use self::state::Dependencies;

/// The REST interface on a queue. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    state: AppState,
    /// Whether every client that reaches the gateway may use it.
    is_open: bool,
}

impl Gateway {
    /// Creates a gateway.
    pub fn new(dependencies: Dependencies) -> Self {
        let config = &dependencies.config;
        let is_open = config.access.keys.is_empty() && !config.api.listen.ip().is_loopback();
        Self {
            state: AppState::new(dependencies),
            is_open,
        }
    }

    /// Returns the router of all routes, for callers without a listener. `readiness` answers `/readyz`.
    pub fn router(&self, readiness: &Readiness) -> Router {
        router::router(self.state.clone(), readiness, None)
    }

    /// Serves all routes until `stop`, then lets open requests finish.
    pub async fn serve(&self, listener: TcpListener, readiness: &Readiness, stop: CancellationToken) {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "the gateway is listening");
        }
        if self.is_open {
            tracing::warn!(
                "no API keys are configured: every client that reaches this address may use the API"
            );
        }
        let http: &HttpConfig = self.state.http();
        let router = router::router(self.state.clone(), readiness, self.state.browsers());
        http_server::serve(listener, router, http, stop).await;
    }

    pub(crate) fn state(&self) -> &AppState {
        &self.state
    }
}
