//! The little HTTP that the command line needs: is a role ready, and what does the API answer.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

use anyhow::Context as _;
use precis_schemas::rest::{JobView, Problem, SubmitSummary};

/// Variable with the key that is sent to the API.
const KEY_VARIABLE: &str = "PRECIS_API_KEY";

/// An HTTP client for addresses on this machine.
pub(crate) fn http() -> anyhow::Result<reqwest::Client> {
    let mut headers = reqwest::header::HeaderMap::new();
    if let Ok(key) = std::env::var(KEY_VARIABLE) {
        let mut value = reqwest::header::HeaderValue::from_str(&key)
            .with_context(|| format!("{KEY_VARIABLE} is no API key"))?;
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

/// `address` as a client can reach it: a server that listens everywhere is reached on loopback.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Whether a GET of `url` succeeds within two seconds.
pub(crate) async fn answers(client: &reqwest::Client, url: &str) -> bool {
    let request = client.get(url).timeout(Duration::from_secs(2)).send().await;
    request.is_ok_and(|response| response.status().is_success())
}

/// Longest that one request waits; a longer wait is made of several.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Submits a text and waits for its summary, at most `patience`; what comes back may not be done yet.
///
/// # Errors
/// When the API can't be reached or refuses the text.
pub(crate) async fn summarize(
    client: &reqwest::Client,
    api: SocketAddr,
    request: &SubmitSummary,
    patience: Duration,
) -> anyhow::Result<JobView> {
    let give_up = Instant::now() + patience;
    let slice = || {
        give_up
            .saturating_duration_since(Instant::now())
            .min(LONGEST_WAIT)
    };
    let submit = client
        .post(format!("http://{api}/v1/summaries"))
        .header("prefer", format!("wait={}", slice().as_secs()))
        .json(request);
    let mut view = answer(submit, api).await?;
    while !view.status.is_final() && slice() >= Duration::from_secs(1) {
        let url = format!("http://{api}{}?wait={}", view.links.this, slice().as_secs());
        view = answer(client.get(url), api).await?;
    }
    Ok(view)
}

async fn answer(request: reqwest::RequestBuilder, api: SocketAddr) -> anyhow::Result<JobView> {
    let response = request
        .timeout(LONGEST_WAIT + Duration::from_secs(10))
        .send()
        .await
        .with_context(|| format!("the API at {api}"))?;
    let status = response.status();
    if status.is_success() {
        return response.json().await.context("the API's answer");
    }
    let text = response.text().await.unwrap_or_default();
    Err(match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => anyhow::anyhow!("{}: {}", problem.code, problem.detail),
        Err(_) => anyhow::anyhow!("the API at {api} answered {status}: {}", text.trim()),
    })
}
