//! HTTP clients of the gateway, with one connection each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use precis_runtime::backoff::Backoff;
use tokio::net::TcpStream;

use super::load::Caller;

/// Seconds in `Prefer: wait`; longer than any job takes.
const WAIT_SECONDS: u64 = 60;
/// Delay before the first poll. It doubles with every poll.
const MIN_POLL_DELAY: Duration = Duration::from_millis(1);
const MAX_POLL_DELAY: Duration = Duration::from_millis(16);

/// How a client gets its summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// In the response to the submission, with `Prefer: wait`.
    Wait,
    /// By polling the job until it has ended.
    Poll,
    /// Not at all: the client requests `/healthz`, which measures HTTP alone.
    Healthz,
}

/// Request bodies that all clients take in turns.
pub(super) struct RequestBodies {
    bodies: Vec<Bytes>,
    next: AtomicUsize,
}

impl RequestBodies {
    pub(super) fn new(texts: &[String]) -> Arc<Self> {
        let body = |text: &String| Bytes::from(serde_json::json!({ "text": text }).to_string());
        Arc::new(Self {
            bodies: texts.iter().map(body).collect(),
            next: AtomicUsize::new(0),
        })
    }

    fn next(&self) -> Bytes {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.bodies[turn % self.bodies.len()].clone()
    }
}

/// A client with one connection to the gateway.
pub(super) struct HttpClient {
    connection: SendRequest<Full<Bytes>>,
    host: String,
    mode: Mode,
    bodies: Arc<RequestBodies>,
}

impl HttpClient {
    /// Connects to the gateway.
    ///
    /// # Errors
    /// If the gateway refuses the connection.
    pub(super) async fn connect(
        api: SocketAddr,
        mode: Mode,
        bodies: Arc<RequestBodies>,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(api).await.context("connecting to the API")?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // A failure surfaces in the call that waits for a response.
            let _ = driver.await;
        });
        Ok(Self {
            connection,
            host: api.to_string(),
            mode,
            bodies,
        })
    }

    /// Connects `count` clients.
    ///
    /// # Errors
    /// If the gateway refuses a connection.
    pub(super) async fn connect_many(
        count: usize,
        api: SocketAddr,
        mode: Mode,
        bodies: &Arc<RequestBodies>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Self::connect(api, mode, bodies.clone()).await?);
        }
        Ok(clients)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        wait: bool,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if wait {
            request = request.header("prefer", format!("wait={WAIT_SECONDS}"));
        }
        self.connection.ready().await?;
        let response = self
            .connection
            .send_request(request.body(Full::new(body))?)
            .await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    async fn submit_and_poll(&mut self) -> anyhow::Result<()> {
        let body = self.bodies.next();
        let (status, response) = self.send(Method::POST, "/v1/summaries", body, false).await?;
        let response = String::from_utf8_lossy(&response);
        ensure!(
            status == StatusCode::ACCEPTED,
            "the submission was not accepted: {status}: {response}"
        );
        let path = job_path(&response).with_context(|| format!("no job path in {response}"))?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            tokio::time::sleep(Backoff::nth(MIN_POLL_DELAY, MAX_POLL_DELAY, attempt)).await;
            let (status, response) = self.send(Method::GET, path, Bytes::new(), false).await?;
            ensure!(status == StatusCode::OK, "{path} returned {status}");
            if has_succeeded(&response) {
                return Ok(());
            }
        }
    }
}

impl Caller for HttpClient {
    async fn call(&mut self) -> anyhow::Result<()> {
        match self.mode {
            Mode::Healthz => {
                let (status, _) = self.send(Method::GET, "/healthz", Bytes::new(), false).await?;
                ensure!(status == StatusCode::OK, "/healthz returned {status}");
            }
            Mode::Wait => {
                let body = self.bodies.next();
                let (status, response) = self.send(Method::POST, "/v1/summaries", body, true).await?;
                ensure!(
                    status == StatusCode::OK && has_succeeded(&response),
                    "the job didn't succeed: {status}: {}",
                    String::from_utf8_lossy(&response)
                );
            }
            Mode::Poll => self.submit_and_poll().await?,
        }
        Ok(())
    }
}

/// Returns whether a response shows a succeeded job.
///
/// Scans the first bytes instead of parsing JSON, because the client shares the cores with the product.
fn has_succeeded(response: &[u8]) -> bool {
    const SUCCEEDED: &[u8] = br#""status":"succeeded""#;
    response
        .windows(SUCCEEDED.len())
        .take(200)
        .any(|window| window == SUCCEEDED)
}

/// Returns the path of the job in a response.
fn job_path(response: &str) -> Option<&str> {
    let from = &response[response.find("/v1/jobs/")?..];
    from.split('"').next()
}
