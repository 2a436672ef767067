//! One HTTP request to a target, and what its response means.

use std::time::Duration;

use bytes::Bytes;
use precis_runtime::clock;
use reqwest::header::{HeaderMap, RETRY_AFTER};
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
    /// The target lacks the prediction that it belongs to.
    #[error("{0}")]
    NotYet(String),
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

/// Sends a request. Returns the response's body.
///
/// # Errors
/// When the target can't be reached, or does not answer with 2xx.
pub(crate) async fn send(request: RequestBuilder) -> Result<Bytes, SendError> {
    let response = request.send().await.map_err(unreachable)?;
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let body = read(response).await;
    if status.is_success() {
        // The target accepted the request, even if its response breaks off.
        return Ok(body.unwrap_or_default());
    }
    let text = body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let text: String = text.trim().chars().take(MAX_REASON_CHARS).collect();
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

async fn read(mut response: reqwest::Response) -> Option<Bytes> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_RESPONSE_BYTES {
            body.truncate(MAX_RESPONSE_BYTES);
            break;
        }
    }
    (!body.is_empty()).then(|| body.into())
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

/// Reads seconds or a date, as in RFC 9110.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(clock::now())).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
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
    fn retry_after_is_seconds_or_a_date_up_to_a_maximum() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("99999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
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
