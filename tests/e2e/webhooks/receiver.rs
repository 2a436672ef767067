//! A receiver of webhooks on this machine.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use precis_tests::eventually;
use serde_json::{Value, json};

use crate::contracts::{folder, python};

/// A received webhook.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) path: String,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(super) fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns whether the Standard Webhooks library verifies it.
    pub(super) async fn is_signed_with(&self, secret: &str) -> bool {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: serde_json::Map<String, Value> = names
            .iter()
            .map(|name| ((*name).to_owned(), self.header(name).into()))
            .collect();
        let body = std::str::from_utf8(&self.body).unwrap();
        let call = json!({"secret": secret, "headers": headers, "body": body}).to_string();
        let verify = move || {
            let mut python = Command::new(python())
                .arg(folder().join("verify_webhook.py"))
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            python.stdin.take().unwrap().write_all(call.as_bytes()).unwrap();
            let output = python.wait_with_output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(
                output.status.success() || error.starts_with("not verified"),
                "{error}"
            );
            output.status.success()
        };
        tokio::task::spawn_blocking(verify).await.unwrap()
    }
}

#[derive(Clone, Default)]
pub(super) struct Receiver {
    calls: Arc<Mutex<Vec<Call>>>,
    /// Whether `/waking` accepts requests.
    pub(super) is_awake: Arc<AtomicBool>,
    pub(super) address: String,
    scheme: &'static str,
}

impl Receiver {
    /// Starts a receiver. `/failing` accepts the third attempt, `/dead` none, `/waking` those while it is awake.
    /// `/gone` answers 410, `/moved` redirects at first, `/slow` delays, and every other path accepts.
    pub(super) async fn start() -> Self {
        Self::at("127.0.0.2").await
    }

    pub(super) async fn at(host: &str) -> Self {
        let listener = tokio::net::TcpListener::bind((host, 0)).await.unwrap();
        Self::serving(listener, "http").await
    }

    pub(super) async fn serving<L>(listener: L, scheme: &'static str) -> Self
    where
        L: axum::serve::Listener<Addr = SocketAddr>,
    {
        let receiver = Self {
            address: listener.local_addr().unwrap().to_string(),
            scheme,
            ..Self::default()
        };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub(super) fn calls(&self, path: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    pub(super) async fn called(&self, path: &str, times: usize) -> Vec<Call> {
        eventually(Duration::from_secs(120), "the receiver is called", async || {
            let calls = self.calls(path);
            (calls.len() >= times).then_some(calls)
        })
        .await
    }
}

async fn take(State(receiver): State<Receiver>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let times = receiver.calls(&path).len();
    receiver.calls.lock().unwrap().push(Call {
        path: path.clone(),
        headers,
        body,
    });
    match path.as_str() {
        "/failing" if times < 2 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "/waking" if !receiver.is_awake.load(Ordering::Relaxed) => StatusCode::BAD_GATEWAY.into_response(),
        "/dead" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "/gone" => StatusCode::GONE.into_response(),
        "/moved" if times < 1 => (StatusCode::FOUND, [(header::LOCATION, "/secret")]).into_response(),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            StatusCode::NO_CONTENT.into_response()
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}
