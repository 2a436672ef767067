//! The HTTP client of the command line: readiness checks and submissions.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use precis_runtime::clock::Instant;
use precis_schemas::rest::{JobView, Problem, SubmitSummary};

/// Environment variable with the API key to send.
const KEY_VARIABLE: &str = "PRECIS_API_KEY";

/// Returns a client that sends the API key of `PRECIS_API_KEY`, if set.
pub(crate) fn http() -> anyhow::Result<reqwest::Client> {
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
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Returns whether a GET of `url` succeeds within two seconds.
pub(crate) async fn is_up(client: &reqwest::Client, url: &str) -> bool {
    let request = client.get(url).timeout(Duration::from_secs(2)).send().await;
    request.is_ok_and(|response| response.status().is_success())
}

/// Maximum long poll of one request. Longer waits take several requests.
const MAX_LONG_POLL: Duration = Duration::from_secs(30);

/// Submits a text and waits up to `timeout` for its summary. The returned job may still be running.
///
/// # Errors
/// If the API can't be reached or rejects the request.
pub(crate) async fn summarize(
    client: &reqwest::Client,
    api: SocketAddr,
    request: &SubmitSummary,
    timeout: Duration,
) -> anyhow::Result<JobView> {
    let deadline = Instant::now() + timeout;
    let long_poll = || {
        deadline
            .saturating_duration_since(Instant::now())
            .min(MAX_LONG_POLL)
    };
    let submit = client
        .post(format!("http://{api}/v1/summaries"))
        .header("prefer", format!("wait={}", long_poll().as_secs()))
        .json(request);
    let mut view = send(submit, api).await?;
    while !view.status.is_final() && long_poll() >= Duration::from_secs(1) {
        let url = format!("http://{api}{}?wait={}", view.links.this, long_poll().as_secs());
        view = send(client.get(url), api).await?;
    }
    Ok(view)
}

async fn send(request: reqwest::RequestBuilder, api: SocketAddr) -> anyhow::Result<JobView> {
    let response = request
        .timeout(MAX_LONG_POLL + Duration::from_secs(10))
        .send()
        .await
        .with_context(|| format!("calling the API at {api}"))?;
    let status = response.status();
    if status.is_success() {
        return response.json().await.context("reading the API's response");
    }
    let text = response.text().await.unwrap_or_default();
    Err(match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => anyhow::anyhow!("{}: {}", problem.code, problem.detail),
        Err(_) => anyhow::anyhow!("the API at {api} returned {status}: {}", text.trim()),
    })
}
