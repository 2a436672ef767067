//! One HTTP request to a target, and what its response means.

use std::time::Duration;

use bytes::Bytes;
use precis_runtime::{clock, retry_after};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode};

/// Longest `Retry-After` that is honoured. A target that asks for more is retried after this time.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Most bytes of a response that are read.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// Most characters of a response that are quoted in a reason.
const MAX_REASON_CHARS: usize = 300;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The target rejects its content. Retrying changes nothing.
    #[error("{0}")]
    Rejected(String),
    /// The target has accepted the request and rejected a part of it, without saying which. OTLP forbids to send it again.
    #[error("{0}")]
    PartlyRejected(String),
    /// The target lacks the prediction that it belongs to.
    #[error("{0}")]
    NotYet(String),
    /// The response has a status of success, but does not confirm the request: a sign-in page, for example.
    #[error("{0}")]
    Unconfirmed(String),
    /// The target is unavailable, or an operator has to fix the configuration.
    #[error("{reason}")]
    Unavailable {
        /// The cause.
        reason: String,
        /// The status of the response, if there was one.
        status: Option<u16>,
        /// How long the target asks to wait.
        retry_after: Option<Duration>,
    },
}

/// Creates a client for a target, without cookies or redirects.
///
/// # Errors
/// When the TLS provider can't be initialized.
pub(crate) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("precis-monitor/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        // An API key must not follow a redirect to another host.
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// The body of a response with a status of success.
#[derive(Debug, Clone, Default)]
pub(crate) struct Confirmation {
    /// The body.
    pub(crate) body: Bytes,
    /// The media type without parameters, in lower case. Empty if there is none.
    pub(crate) media_type: String,
}

impl Confirmation {
    /// Returns an error that quotes the response.
    pub(crate) fn unreadable(&self) -> SendError {
        let Self { body, media_type } = self;
        SendError::Unconfirmed(format!(
            "the response is not a confirmation: {media_type} {}",
            quote(body)
        ))
    }
}

/// Sends a request. Returns the response's body.
///
/// # Errors
/// When the target can't be reached, does not answer with 2xx, or answers with a page for humans.
pub(crate) async fn send(request: RequestBuilder) -> Result<Confirmation, SendError> {
    let response = request.send().await.map_err(unreachable)?;
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let media_type = media_type(response.headers());
    let body = read(response).await.map_err(unreachable);
    if status.is_success() {
        let confirmation = Confirmation {
            body: body?,
            media_type,
        };
        // No target answers with one: a proxy or a sign-in page stands in its place.
        return match confirmation.media_type.as_str() {
            "text/html" | "application/xhtml+xml" => Err(confirmation.unreadable()),
            _ => Ok(confirmation),
        };
    }
    let text = body.as_deref().map(quote).unwrap_or_default();
    let reason = match text.is_empty() {
        true => status.to_string(),
        false => format!("{status}: {text}"),
    };
    Err(match rejects_content(status) {
        true => SendError::Rejected(reason),
        false => SendError::Unavailable {
            reason,
            status: Some(status.as_u16()),
            retry_after,
        },
    })
}

/// Whether a status rejects the content of a request.
///
/// Every other failure is unrelated to the content. The target is in trouble (5xx) or limits the rate (429), or the
/// configured key (401, 403) or address (404, 405, 3xx) is wrong. Messages wait until that is fixed.
fn rejects_content(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 413 | 414 | 415 | 422)
}

async fn read(mut response: reqwest::Response) -> reqwest::Result<Bytes> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_RESPONSE_BYTES {
            body.truncate(MAX_RESPONSE_BYTES);
            break;
        }
    }
    Ok(body.into())
}

/// Returns the start of a response body, to quote in a reason.
fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.trim().chars().take(MAX_REASON_CHARS).collect()
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Converts an error, with its causes and without its address, which may contain a key.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn unreachable(error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    SendError::Unavailable {
        reason,
        status: None,
        retry_after: None,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let wait = retry_after::parse(headers.get(RETRY_AFTER)?.as_bytes(), clock::now());
    wait.map(|wait| wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statuses_about_content_reject_a_request() {
        let rejected = |code: u16| rejects_content(StatusCode::from_u16(code).unwrap());
        assert!([400, 413, 422].into_iter().all(rejected));
        assert!(![301, 401, 403, 404, 408, 429, 500, 503].into_iter().any(rejected));
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_maximum() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("99999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("Fri, 21 Oct 2095 07:28:00 GMT"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn an_error_hides_the_address() {
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let client = client(Duration::from_secs(2)).unwrap();
        // Port 1 of the loopback interface is not served.
        let error = send(client.post("http://127.0.0.1:1/?api_key=hunter2"))
            .await
            .unwrap_err();
        let SendError::Unavailable { reason, .. } = &error else {
            panic!("{error}")
        };
        assert!(!reason.contains("hunter2") && !reason.is_empty(), "{reason}");
    }
}
