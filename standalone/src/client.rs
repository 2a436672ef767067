//! The little HTTP that the command line needs: is a role ready, and what does the API answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use precis_schemas::rest::{JobView, Problem, SubmitSummary};
use reqwest::header::HeaderName;

/// An HTTP client for addresses on this machine.
pub(crate) fn http() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
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

/// Submits a text and waits for its summary.
///
/// # Errors
/// When the API can't be reached or refuses the text, or the job does not succeed.
pub(crate) async fn summarize(
    client: &reqwest::Client,
    api: SocketAddr,
    request: &SubmitSummary,
    wait_seconds: u64,
) -> anyhow::Result<JobView> {
    let response = client
        .post(format!("http://{api}/v1/summaries"))
        .header(HeaderName::from_static("prefer"), format!("wait={wait_seconds}"))
        .timeout(Duration::from_secs(wait_seconds + 10))
        .json(request)
        .send()
        .await
        .with_context(|| format!("the API at {api}"))?;
    if !response.status().is_success() {
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        return Err(match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => anyhow::anyhow!("{}: {}", problem.code, problem.detail),
            Err(_) => anyhow::anyhow!("the API at {api} answered {status}: {}", text.trim()),
        });
    }
    response.json().await.context("the API's answer")
}
