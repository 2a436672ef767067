//! Makes one attempt to deliver a webhook.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http::{StatusCode, header};
use reqwest::{Certificate, redirect};

use super::signature::Signer;
use super::target::{TargetPolicy, TargetViolation};
use precis_runtime::{clock, retry_after};

/// Most bytes to read of a response: enough to reuse the connection after a short one.
const MAX_READ_BYTES: usize = 16 << 10;

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The receiver answered 2xx.
    Delivered,
    /// The receiver answered 410 Gone and wants no further attempts.
    Gone,
    /// The URL may not be called, for this reason.
    Rejected(String),
    /// Anything else. A retry may succeed.
    Failed {
        /// What went wrong.
        problem: String,
        /// The `Retry-After` of the receiver.
        retry_after: Option<Duration>,
    },
}

/// Posts webhooks. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Poster {
    client: reqwest::Client,
    policy: TargetPolicy,
}

/// A request to a receiver.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// The URL of the callback.
    pub(super) url: &'a str,
    /// The `webhook-id`, the same for every attempt.
    pub(super) id: &'a str,
    /// The event as JSON.
    pub(super) body: Bytes,
    /// The keys to sign with.
    pub(super) signer: &'a Signer,
}

impl Poster {
    /// Creates a poster whose attempts take at most `timeout`. It trusts the system's certificate authorities and those
    /// in the file.
    ///
    /// # Errors
    /// Returns an error if the system's root certificates or the file cannot be read.
    pub(super) fn new(
        policy: TargetPolicy,
        timeout: Duration,
        authorities: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let authorities = match authorities {
            Some(file) => {
                certificates(file).with_context(|| format!("webhooks.ca_file {}", file.display()))?
            }
            None => Vec::new(),
        };
        let client = reqwest::Client::builder()
            .tls_certs_merge(authorities)
            .redirect(redirect::Policy::none())
            // A proxy would resolve the name itself, past the policy.
            .no_proxy()
            .referer(false)
            .dns_resolver(policy.clone())
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .timeout(timeout)
            .pool_idle_timeout(Duration::from_secs(10))
            .user_agent(concat!("precis/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, policy })
    }

    /// Makes one attempt.
    pub(super) async fn post(&self, request: Request<'_>) -> Attempt {
        let url = match self.policy.check(request.url) {
            Ok(url) => url,
            Err(violation) => return Attempt::Rejected(violation.to_string()),
        };
        let timestamp = clock::now().as_second();
        let signature = request.signer.sign(request.id, timestamp, &request.body);
        let sent = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", request.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(request.body)
            .send()
            .await;
        match sent {
            Ok(response) => {
                let attempt = from_response(&response);
                drain(response).await;
                attempt
            }
            Err(error) => from_error(&error),
        }
    }
}

fn from_response(response: &reqwest::Response) -> Attempt {
    let status = response.status();
    if status.is_success() {
        return Attempt::Delivered;
    }
    if status == StatusCode::GONE {
        return Attempt::Gone;
    }
    let retry_after = response.headers().get(header::RETRY_AFTER);
    Attempt::Failed {
        problem: format!("the receiver answered {}", status.as_u16()),
        retry_after: retry_after.and_then(|value| retry_after::parse(value.as_bytes(), clock::now())),
    }
}

/// Reads a short response to its end, so that the connection can be reused.
async fn drain(response: reqwest::Response) {
    let mut chunks = response.bytes_stream();
    let mut read = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        read += chunk.len();
        if read > MAX_READ_BYTES {
            return;
        }
    }
}

fn from_error(error: &reqwest::Error) -> Attempt {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(violation) = inner.downcast_ref::<TargetViolation>() {
            return Attempt::Rejected(violation.to_string());
        }
        cause = inner.source();
    }
    let problem = if let Some(problem) = tls_error(error) {
        format!("the TLS handshake with the receiver failed: {problem}")
    } else if error.is_timeout() {
        "the receiver did not answer in time".to_owned()
    } else if error.is_connect() {
        "the receiver cannot be reached".to_owned()
    } else {
        "the connection to the receiver broke".to_owned()
    };
    Attempt::Failed {
        problem,
        retry_after: None,
    }
}

/// Returns the TLS error behind `error`, such as an untrusted certificate.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        // An I/O error does not return its inner error as its source.
        cause = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let certificates = Certificate::from_pem_bundle(&std::fs::read(file)?)?;
    ensure!(!certificates.is_empty(), "the file contains no PEM certificate");
    Ok(certificates)
}
