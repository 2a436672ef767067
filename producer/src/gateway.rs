//! The HTTP client of command lines: readiness checks, submissions, and what operators look at.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use precis_runtime::clock::{self, Instant};
use precis_runtime::retry_after;
use precis_schemas::JobId;
use precis_schemas::rest::{JobView, ModelList, Problem, SubmitSummary};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

/// Environment variable with the API key to send.
const KEY_VARIABLE: &str = "PRECIS_API_KEY";

/// Returns a client that sends the API key of `PRECIS_API_KEY`, if set.
pub fn http() -> anyhow::Result<reqwest::Client> {
    let mut headers = reqwest::header::HeaderMap::new();
    if let Ok(key) = std::env::var(KEY_VARIABLE) {
        let mut value = reqwest::header::HeaderValue::from_str(&key)
            .with_context(|| format!("{KEY_VARIABLE} is not a valid API key"))?;
        value.set_sensitive(true);
        headers.insert("x-api-key", value);
    }
    reqwest::Client::builder()
        .default_headers(headers)
        .no_proxy()
        .connect_timeout(Duration::from_secs(2))
        .build()
        .context("building the HTTP client")
}

/// Replaces an unspecified address, such as `0.0.0.0`, by loopback.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// What a server answers to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It answers with this status.
    Answers(StatusCode),
    /// It accepts connections and does not answer in time.
    Silent,
    /// Nothing listens at the address.
    Absent,
}

impl ProbeOutcome {
    /// Returns whether the status says success.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Answers(status) if status.is_success())
    }
}

/// Sends a GET and waits two seconds for the answer.
pub async fn probe(client: &reqwest::Client, url: &str) -> ProbeOutcome {
    match client.get(url).timeout(Duration::from_secs(2)).send().await {
        Ok(response) => ProbeOutcome::Answers(response.status()),
        Err(error) if error.is_connect() => ProbeOutcome::Absent,
        Err(_) => ProbeOutcome::Silent,
    }
}

/// Maximum long poll of one request. Longer waits take several requests.
const MAX_LONG_POLL: Duration = Duration::from_secs(30);
/// Pause before a refused request is repeated if the gateway names none.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

/// Least pause before a refused request is repeated.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// The REST gateway of a running product, and how long to wait for it.
#[derive(Debug)]
pub struct Gateway<'a> {
    client: &'a reqwest::Client,
    address: SocketAddr,
    deadline: Instant,
}

impl<'a> Gateway<'a> {
    /// Returns the gateway at `address`. All calls together take about `patience` at most.
    pub fn new(client: &'a reqwest::Client, address: SocketAddr, patience: Duration) -> Self {
        Self {
            client,
            address,
            deadline: Instant::now() + patience,
        }
    }

    /// Lists the models of live workers.
    ///
    /// # Errors
    /// If the gateway can't be reached or refuses.
    pub async fn models(&self) -> anyhow::Result<ModelList> {
        let url = format!("http://{}/v1/models", self.address);
        self.send(|| self.client.get(&url)).await
    }

    /// Submits a text and waits for its summary. The returned job may still be running.
    ///
    /// # Errors
    /// If the gateway can't be reached or rejects the request.
    pub async fn summarize(&self, request: &SubmitSummary) -> anyhow::Result<JobView> {
        let url = format!("http://{}/v1/summaries", self.address);
        // A repeated request must not become a second job.
        let key = JobId::generate().to_string();
        let submit = || {
            let poll = format!("wait={}", self.long_poll().as_secs());
            let post = self.client.post(&url).header("idempotency-key", &key);
            post.header("prefer", poll).json(request)
        };
        let mut view: JobView = self.send(submit).await?;
        while !view.status.is_final() && self.long_poll() >= Duration::from_secs(1) {
            let poll = || {
                let wait = self.long_poll().as_secs();
                self.client
                    .get(format!("http://{}{}?wait={wait}", self.address, view.links.this))
            };
            view = self.send(poll).await?;
        }
        Ok(view)
    }

    /// Gets a path.
    ///
    /// # Errors
    /// If the gateway can't be reached or refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let url = format!("http://{}{path}", self.address);
        self.send(|| self.client.get(&url).query(query)).await
    }

    /// Posts to a path, without a body.
    ///
    /// # Errors
    /// As [`Gateway::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = format!("http://{}{path}", self.address);
        self.send(|| self.client.post(&url)).await
    }

    /// Deletes what is at a path.
    ///
    /// # Errors
    /// As [`Gateway::get`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let url = format!("http://{}{path}", self.address);
        self.send_raw(|| self.client.delete(&url)).await.map(drop)
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn long_poll(&self) -> Duration {
        self.remaining().min(MAX_LONG_POLL)
    }

    /// Sends a request, and reads the response.
    async fn send<T: DeserializeOwned>(&self, request: impl Fn() -> RequestBuilder) -> anyhow::Result<T> {
        let response = self.send_raw(request).await?;
        let status = response.status();
        response.json().await.with_context(|| self.not_precis(status))
    }

    /// Sends a request. Repeats it while the gateway asks to come back later and there is time.
    async fn send_raw(&self, request: impl Fn() -> RequestBuilder) -> anyhow::Result<Response> {
        loop {
            let sent = request().timeout(MAX_LONG_POLL + Duration::from_secs(10)).send();
            let response = sent.await.with_context(|| {
                format!(
                    "calling the gateway at http://{}; check that it runs and that api.listen is its address",
                    self.address
                )
            })?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let busy = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            let pause = pause(&response);
            if busy && pause <= self.remaining() {
                tokio::time::sleep(pause).await;
                continue;
            }
            let text = response.text().await.unwrap_or_default();
            let Ok(problem) = serde_json::from_str::<Problem>(&text) else {
                bail!("{}: {}", self.not_precis(status), text.trim());
            };
            let advice = match status {
                StatusCode::UNAUTHORIZED => format!("; set {KEY_VARIABLE} to an API key of this deployment"),
                _ if busy => format!(
                    "; the gateway at {} is limiting requests: try again in {} s, or wait longer with --wait",
                    self.address,
                    pause.as_secs()
                ),
                _ => String::new(),
            };
            bail!("{}: {}{advice}", problem.code, problem.detail);
        }
    }

    fn not_precis(&self, status: StatusCode) -> String {
        format!(
            "the server at {} is not a Precis gateway ({status}); set api.listen to the gateway's address",
            self.address
        )
    }
}

/// Returns the pause that a refusal asks for in `Retry-After`.
fn pause(response: &Response) -> Duration {
    let value = response.headers().get(reqwest::header::RETRY_AFTER);
    let pause = value.and_then(|value| retry_after::parse(value.as_bytes(), clock::now()));
    pause.unwrap_or(DEFAULT_PAUSE).max(MIN_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Starts a server that gives these responses, one per connection. Returns its address and the requests it got.
    async fn server(responses: &[&'static str]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (responses, requests) = (responses.to_vec(), seen.clone());
        tokio::spawn(async move {
            for response in responses {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 8192];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                requests.lock().unwrap().push(head);
                stream.write_all(response.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                // Closing with unread bytes would reset the connection.
                tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
            }
        });
        (address, seen)
    }

    fn client() -> reqwest::Client {
        // A process has one TLS provider.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        http().unwrap()
    }

    const LIMITED: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\nconnection: close\r\n\
        content-type: application/problem+json\r\n\r\n\
        {\"type\":\"about:blank\",\"title\":\"t\",\"status\":429,\"code\":\"rate_limited\",\"detail\":\"too many requests\"}";
    const MODELS: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"models\":[]}";

    #[tokio::test]
    async fn a_rate_limited_request_is_repeated_with_the_same_key() {
        let (address, seen) = server(&[LIMITED, LIMITED, "HTTP/1.1 404 Not Found\r\n\r\n"]).await;
        let http = client();
        let gateway = Gateway::new(&http, address, Duration::from_secs(30));
        let error = gateway.summarize(&SubmitSummary::default()).await.unwrap_err();
        assert!(error.to_string().contains("is not a Precis gateway"), "{error:#}");
        let seen = seen.lock().unwrap();
        let key = |request: &String| {
            let line = request.lines().find(|line| line.starts_with("idempotency-key"));
            line.expect("it has a key").to_owned()
        };
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|request| key(request) == key(&seen[0])));
    }

    #[tokio::test]
    async fn a_gateway_that_stays_busy_is_said_to_be_running() {
        let limited = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 60\r\n\r\n\
            {\"type\":\"about:blank\",\"title\":\"t\",\"status\":429,\"code\":\"rate_limited\",\"detail\":\"slow down\"}";
        let (address, _) = server(&[limited]).await;
        let http = client();
        let gateway = Gateway::new(&http, address, Duration::from_secs(5));
        let error = gateway.models().await.unwrap_err().to_string();
        for part in ["rate_limited", "slow down", "is limiting requests", "60 s"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn only_a_closed_port_means_that_nothing_runs() {
        let http = client();
        let (address, _) = server(&[LIMITED, MODELS]).await;
        let url = format!("http://{address}/readyz");
        assert_eq!(
            probe(&http, &url).await,
            ProbeOutcome::Answers(StatusCode::TOO_MANY_REQUESTS)
        );
        assert!(probe(&http, &url).await.is_ready());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(
            probe(&http, &format!("http://{free}/readyz")).await,
            ProbeOutcome::Absent
        );
    }
}
