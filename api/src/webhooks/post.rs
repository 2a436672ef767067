//! One attempt to post a webhook.

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
use super::target::{Policy, Problem};
use precis_runtime::clock;

/// Most that is read of an answer: enough to use the connection again after a short one.
const MOST_READ: usize = 16 << 10;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Answered with 2xx.
    Taken,
    /// Answered with 410: nothing more is wanted there.
    Unwanted,
    /// The address may not be called.
    Refused(String),
    /// Anything else; it may go better later, and perhaps the receiver has said when.
    Failed {
        /// What went wrong.
        problem: String,
        /// How long the receiver wants to be left alone.
        retry_after: Option<Duration>,
    },
}

/// Posts webhooks. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Poster {
    client: reqwest::Client,
    policy: Policy,
}

/// What is posted.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    /// Where to.
    pub(super) url: &'a str,
    /// The same for every attempt: `webhook-id`.
    pub(super) id: &'a str,
    /// What.
    pub(super) body: Bytes,
    /// Signed with what.
    pub(super) signer: &'a Signer,
}

impl Poster {
    /// A poster whose attempts take at most `patience`. Receivers have their certificates from an authority that the
    /// system trusts, or one of the file's.
    ///
    /// # Errors
    /// When the system's root certificates or the file can't be read.
    pub(super) fn new(
        policy: Policy,
        patience: Duration,
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
            // A proxy would resolve the name by itself.
            .no_proxy()
            .referer(false)
            .dns_resolver(policy.clone())
            .connect_timeout(patience.min(Duration::from_secs(10)))
            .timeout(patience)
            .pool_idle_timeout(Duration::from_secs(10))
            .user_agent(concat!("precis/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, policy })
    }

    /// Posts once.
    pub(super) async fn post(&self, message: Message<'_>) -> Attempt {
        let url = match self.policy.check(message.url) {
            Ok(url) => url,
            Err(problem) => return Attempt::Refused(problem.to_string()),
        };
        let timestamp = clock::now().as_second();
        let signature = message.signer.sign(message.id, timestamp, &message.body);
        let sent = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(message.body)
            .send()
            .await;
        match sent {
            Ok(response) => {
                let attempt = of_answer(&response);
                drain(response).await;
                attempt
            }
            Err(error) => of_error(&error),
        }
    }
}

fn of_answer(response: &reqwest::Response) -> Attempt {
    let status = response.status();
    if status.is_success() {
        return Attempt::Taken;
    }
    if status == StatusCode::GONE {
        return Attempt::Unwanted;
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    Attempt::Failed {
        problem: format!("the receiver answered {}", status.as_u16()),
        retry_after,
    }
}

/// A little of the answer, so that its connection can be used again; more is not waited for.
async fn drain(response: reqwest::Response) {
    let mut chunks = response.bytes_stream();
    let mut read = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        read += chunk.len();
        if read > MOST_READ {
            return;
        }
    }
}

fn of_error(error: &reqwest::Error) -> Attempt {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(problem) = inner.downcast_ref::<Problem>() {
            return Attempt::Refused(problem.to_string());
        }
        cause = inner.source();
    }
    let problem = if let Some(problem) = of_tls(error) {
        format!("there is no TLS connection to the receiver: {problem}")
    } else if error.is_timeout() {
        "the receiver did not answer in time".to_owned()
    } else if error.is_connect() {
        "the receiver can't be reached".to_owned()
    } else {
        "the connection to the receiver broke".to_owned()
    };
    Attempt::Failed {
        problem,
        retry_after: None,
    }
}

/// What TLS did not like, such as a certificate that nobody trusts.
fn of_tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        // What an I/O error has inside is not its source.
        cause = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let certificates = Certificate::from_pem_bundle(&std::fs::read(file)?)?;
    ensure!(
        !certificates.is_empty(),
        "there is no certificate in it (PEM is needed)"
    );
    Ok(certificates)
}
