//! Tells a monitor of every summary: its `POST /log/online`. What it doesn't take in a few attempts is dropped and
//! counted; a monitor that is away holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use precis_runtime::config::LocalConfig as Settings;
use precis_schemas::{JobResult, Outcome};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::metrics;

/// Most summaries that wait to be told.
const MOST_WAITING: usize = 1_000;
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pauses before the attempts.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];

/// What the monitor is told.
#[derive(Debug, Serialize)]
struct Logged {
    article: String,
    summ: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    model_source: &'static str,
    send_arize: bool,
}

/// Tells a monitor, if there is one. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reporter(Option<Arc<Inner>>);

struct Inner {
    summaries: mpsc::Sender<Logged>,
    send_arize: bool,
    open: Arc<Open>,
}

/// How many are still to be told.
#[derive(Default)]
struct Open {
    count: AtomicUsize,
    done: Notify,
}

impl Reporter {
    /// One that tells the monitor of the settings.
    ///
    /// # Errors
    /// When its address is no URL.
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let Some(url) = &settings.monitor_url else {
            return Ok(Self(None));
        };
        let address = format!("{}/log/online", url.expose().trim_end_matches('/'));
        let address = reqwest::Url::parse(&address).with_context(|| {
            format!("local.monitor_url = {url}: not the address of a monitor, such as http://monitor:9020")
        })?;
        anyhow::ensure!(
            matches!(address.scheme(), "http" | "https"),
            "local.monitor_url = {url}: must begin with http:// or https://"
        );
        let mut headers = HeaderMap::new();
        if let Some(key) = &settings.monitor_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                .context("local.monitor_key: must be visible ASCII characters")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("local.monitor_url: an HTTP client")?;
        let (summaries, waiting) = mpsc::channel(MOST_WAITING);
        let open = Arc::<Open>::default();
        tokio::spawn(tell_all(client, address, waiting, open.clone()));
        Ok(Self(Some(Arc::new(Inner {
            summaries,
            send_arize: settings.send_arize,
            open,
        }))))
    }

    /// Tells of a job that has a summary. Returns at once.
    pub(super) fn tell(&self, result: &JobResult) {
        let Some(inner) = &self.0 else { return };
        let (Outcome::Succeeded, Some(summary)) = (result.outcome, &result.summary) else {
            return;
        };
        // A summary that was only to be scored may have come without its text; a monitor takes none of those.
        if result.text.trim().is_empty() {
            return;
        }
        let logged = Logged {
            article: result.text.clone(),
            summ: summary.clone(),
            target: result.reference.clone(),
            model_source: result.channel.as_str(),
            send_arize: result.send_to_arize.unwrap_or(inner.send_arize),
        };
        inner.open.count.fetch_add(1, Ordering::AcqRel);
        if inner.summaries.try_send(logged).is_err() {
            inner.open.close_one();
            metrics::reported("dropped");
        }
    }

    /// Waits until everything is told, or for so long.
    pub(super) async fn flush(&self, longest: Duration) {
        let Some(inner) = &self.0 else { return };
        let told = async {
            loop {
                let done = inner.open.done.notified();
                if inner.open.count.load(Ordering::Acquire) == 0 {
                    return;
                }
                done.await;
            }
        };
        if tokio::time::timeout(longest, told).await.is_err() {
            tracing::debug!("the monitor is not told of everything yet");
        }
    }
}

impl Open {
    fn close_one(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_waiters();
        }
    }
}

async fn tell_all(
    client: reqwest::Client,
    address: reqwest::Url,
    mut waiting: mpsc::Receiver<Logged>,
    open: Arc<Open>,
) {
    while let Some(logged) = waiting.recv().await {
        metrics::reported(tell(&client, &address, &logged).await);
        open.close_one();
    }
}

/// Tells of one summary; how that ended.
async fn tell(client: &reqwest::Client, address: &reqwest::Url, logged: &Logged) -> &'static str {
    let mut problem = String::new();
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        match client.post(address.clone()).json(logged).send().await {
            Ok(response) if response.status().is_success() => return "told",
            Ok(response) if response.status().is_client_error() => {
                let status = response.status();
                tracing::warn!(%status, "the monitor refuses a summary");
                return "refused";
            }
            Ok(response) => problem = response.status().to_string(),
            // Without the address: it may have a password in it.
            Err(error) => problem = error.without_url().to_string(),
        }
    }
    tracing::warn!(problem, "the monitor can't be told of a summary");
    "dropped"
}
