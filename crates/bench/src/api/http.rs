//! Clients of the gateway. Each has one connection, as a service that calls another has.

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
use tokio::net::TcpStream;

use super::load::Caller;

/// How long a client asks to wait, in seconds: longer than any job takes.
const PATIENCE: u64 = 60;
/// First pause between two polls; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// How a client gets its summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In the answer to the submission: `Prefer: wait`.
    Wait,
    /// By asking for the job until it is done.
    Poll,
    /// Not at all: it asks whether the gateway lives. What HTTP alone costs.
    Healthz,
}

/// Requests that are sent in turns, shared by all clients.
pub(super) struct Bodies {
    bodies: Vec<Bytes>,
    next: AtomicUsize,
}

impl Bodies {
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

/// One client.
pub(super) struct Client {
    connection: SendRequest<Full<Bytes>>,
    host: String,
    way: Way,
    bodies: Arc<Bodies>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) async fn connect(api: SocketAddr, way: Way, bodies: Arc<Bodies>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(api).await.context("connecting to the API")?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // An error shows where an answer is missing.
            let _ = driver.await;
        });
        Ok(Self {
            connection,
            host: api.to_string(),
            way,
            bodies,
        })
    }

    /// As many clients as that.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) async fn several(
        count: usize,
        api: SocketAddr,
        way: Way,
        bodies: &Arc<Bodies>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Self::connect(api, way, bodies.clone()).await?);
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
            request = request.header("prefer", format!("wait={PATIENCE}"));
        }
        self.connection.ready().await?;
        let response = self
            .connection
            .send_request(request.body(Full::new(body))?)
            .await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

impl Caller for Client {
    async fn call(&mut self) -> anyhow::Result<()> {
        match self.way {
            Way::Healthz => {
                let (status, _) = self.send(Method::GET, "/healthz", Bytes::new(), false).await?;
                ensure!(status == StatusCode::OK, "/healthz answered {status}");
            }
            Way::Wait => {
                let body = self.bodies.next();
                let (status, answer) = self.send(Method::POST, "/v1/summaries", body, true).await?;
                ensure!(
                    status == StatusCode::OK && is_done(&answer),
                    "no summary but {status}: {}",
                    String::from_utf8_lossy(&answer)
                );
            }
            Way::Poll => {
                let body = self.bodies.next();
                let (status, answer) = self.send(Method::POST, "/v1/summaries", body, false).await?;
                let shown = String::from_utf8_lossy(&answer);
                ensure!(
                    status == StatusCode::ACCEPTED,
                    "not accepted but {status}: {shown}"
                );
                let path = path_of(&shown).with_context(|| format!("no path in {shown}"))?;
                let mut pause = FIRST_PAUSE;
                loop {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let (status, answer) = self.send(Method::GET, path, Bytes::new(), false).await?;
                    ensure!(status == StatusCode::OK, "{path} answered {status}");
                    if is_done(&answer) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether an answer shows a job that succeeded. The client shares its cores with what it measures, so that it doesn't
/// read the whole answer.
fn is_done(answer: &[u8]) -> bool {
    const SUCCEEDED: &[u8] = br#""status":"succeeded""#;
    answer
        .windows(SUCCEEDED.len())
        .take(200)
        .any(|window| window == SUCCEEDED)
}

/// The path under which a job is found.
fn path_of(answer: &str) -> Option<&str> {
    let from = &answer[answer.find("/v1/jobs/")?..];
    from.split('"').next()
}
