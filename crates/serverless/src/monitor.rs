//! Reports summaries to a monitor through its `POST /log/online`.
//!
//! A summary that the monitor does not accept in a few attempts is dropped and counted, so that an unavailable monitor
//! delays nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use precis_runtime::backoff::Backoff;
use precis_runtime::config::LocalConfig;
use precis_schemas::{JobResult, Outcome};
use reqwest::{Client, Url, redirect};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::metrics;

/// How many summaries may wait to be reported.
const MAX_PENDING: usize = 1_000;
/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a report is attempted.
const ATTEMPTS: usize = 3;
/// Shortest and longest step between attempts.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(4);

/// The body of `POST /log/online`.
#[derive(Debug, Serialize)]
struct Report {
    article: String,
    summ: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    model_source: &'static str,
    send_arize: bool,
}

/// Reports summaries to the configured monitor, if there is one. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MonitorClient(Option<Arc<Inner>>);

struct Inner {
    reports: mpsc::Sender<Report>,
    send_arize: bool,
    pending: Arc<Pending>,
}

/// Counts the reports that are not finished.
#[derive(Default)]
struct Pending {
    count: AtomicUsize,
    none_left: Notify,
}

impl MonitorClient {
    /// Creates a client for `local.monitor_url`.
    ///
    /// # Errors
    /// Returns an error if the URL or the key is invalid.
    pub(crate) fn new(settings: &LocalConfig) -> anyhow::Result<Self> {
        let Some(url) = &settings.monitor_url else {
            return Ok(Self(None));
        };
        let address = format!("{}/log/online", url.expose().trim_end_matches('/'));
        let address = Url::parse(&address).with_context(|| {
            format!("local.monitor_url = {url}: must be the URL of a monitor, such as http://monitor:9020")
        })?;
        anyhow::ensure!(
            matches!(address.scheme(), "http" | "https"),
            "local.monitor_url = {url}: must begin with http:// or https://"
        );
        let mut headers = HeaderMap::new();
        if let Some(key) = &settings.monitor_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                .context("local.monitor_key: must consist of visible ASCII characters")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .timeout(ATTEMPT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .build()
            .context("local.monitor_url: creating an HTTP client")?;
        let (reports, queued) = mpsc::channel(MAX_PENDING);
        let pending = Arc::<Pending>::default();
        tokio::spawn(send_reports(client, address, queued, pending.clone()));
        Ok(Self(Some(Arc::new(Inner {
            reports,
            send_arize: settings.send_arize,
            pending,
        }))))
    }

    /// Reports the summary of a job that succeeded. Returns at once.
    pub(crate) fn report(&self, result: &JobResult) {
        let Some(inner) = &self.0 else { return };
        let (Outcome::Succeeded, Some(summary)) = (result.outcome, &result.summary) else {
            return;
        };
        // A summary that was only scored may lack its text, and a monitor rejects an empty article.
        if result.text.trim().is_empty() {
            return;
        }
        let report = Report {
            article: result.text.clone(),
            summ: summary.clone(),
            target: result.reference.clone(),
            model_source: result.channel.as_str(),
            send_arize: result.send_to_arize.unwrap_or(inner.send_arize),
        };
        inner.pending.count.fetch_add(1, Ordering::AcqRel);
        if inner.reports.try_send(report).is_err() {
            inner.pending.finish_one();
            metrics::record_report("dropped");
        }
    }

    /// Waits until no report is pending, at most for `timeout`.
    pub(crate) async fn flush(&self, timeout: Duration) {
        let Some(inner) = &self.0 else { return };
        let none_pending = async {
            loop {
                let none_left = inner.pending.none_left.notified();
                if inner.pending.count.load(Ordering::Acquire) == 0 {
                    return;
                }
                none_left.await;
            }
        };
        if tokio::time::timeout(timeout, none_pending).await.is_err() {
            tracing::debug!("reports to the monitor are still pending");
        }
    }
}

impl Pending {
    fn finish_one(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none_left.notify_waiters();
        }
    }
}

async fn send_reports(
    client: Client,
    address: Url,
    mut queued: mpsc::Receiver<Report>,
    pending: Arc<Pending>,
) {
    while let Some(report) = queued.recv().await {
        metrics::record_report(send(&client, &address, &report).await);
        pending.finish_one();
    }
}

/// Sends one report and returns the outcome for the metric.
async fn send(client: &Client, address: &Url, report: &Report) -> &'static str {
    let mut backoff = Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
    for attempt in 1..=ATTEMPTS {
        let problem = match client.post(address.clone()).json(report).send().await {
            Ok(response) if is_page(response.headers()) => "a web page answered".to_owned(),
            Ok(response) if response.status().is_success() => return "accepted",
            Ok(response) if response.status().is_client_error() => {
                let status = response.status();
                tracing::warn!(%status, "monitor rejected a summary");
                return "refused";
            }
            Ok(response) => response.status().to_string(),
            // The URL may contain a password.
            Err(error) => error.without_url().to_string(),
        };
        if attempt < ATTEMPTS {
            backoff.sleep().await;
        } else {
            tracing::warn!(
                problem,
                attempts = ATTEMPTS,
                "summary was not reported to the monitor"
            );
        }
    }
    "dropped"
}

/// Whether a response is a page for humans. A proxy or a sign-in page stands in the monitor's place.
fn is_page(headers: &HeaderMap) -> bool {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    media_type
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("text/html")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns the outcome of a report to a server that answers every request with this head.
    async fn outcome_of(head: &'static str) -> &'static str {
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/log/online", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 4_096];
                let _whole = connection.read(&mut request).await;
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 1\r\nconnection: close\r\n\r\n1");
                let _sent = connection.write_all(answer.as_bytes()).await;
            }
        });
        let report = Report {
            article: "It rained.".into(),
            summ: "Rain.".into(),
            target: None,
            model_source: "local",
            send_arize: false,
        };
        send(&Client::new(), &address.parse().unwrap(), &report).await
    }

    #[tokio::test]
    async fn a_web_page_does_not_confirm_a_report() {
        assert_eq!(
            outcome_of("200 OK\r\ncontent-type: application/json").await,
            "accepted"
        );
        let page = "200 OK\r\ncontent-type: text/html; charset=utf-8";
        assert_eq!(outcome_of(page).await, "dropped");
        assert_eq!(
            outcome_of("422 No\r\ncontent-type: application/json").await,
            "refused"
        );
    }
}
