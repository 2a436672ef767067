//! Receives webhooks. The first attempt of every third one fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Attempts by the name in the path.
type Calls = Arc<Mutex<HashMap<String, u64>>>;

/// The receiver. It stops when it is dropped.
pub(super) struct Receiver {
    address: SocketAddr,
    calls: Calls,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Starts the receiver on a free port.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.2:0")
            .await
            .context("starting the receiver")?;
        let address = listener.local_addr()?;
        let calls = Calls::default();
        let routes = Router::new()
            .route("/{name}", post(receive))
            .with_state(calls.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the receiver of webhooks failed");
            }
        });
        Ok(Self {
            address,
            calls,
            server,
        })
    }

    /// Returns the URL for a webhook.
    pub(super) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Returns whether a webhook was accepted.
    pub(super) fn accepted(&self, name: &str) -> bool {
        let calls = self.calls.lock().get(name).copied().unwrap_or_default();
        calls > u64::from(fails_first(name))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn fails_first(name: &str) -> bool {
    name.bytes().map(u64::from).sum::<u64>().is_multiple_of(3)
}

async fn receive(State(calls): State<Calls>, Path(name): Path<String>) -> StatusCode {
    let mut calls = calls.lock();
    let attempts = calls.entry(name.clone()).or_default();
    *attempts += 1;
    if *attempts == 1 && fails_first(&name) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::NO_CONTENT
    }
}
