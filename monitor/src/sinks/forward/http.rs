//! One HTTP request to a receiver, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use precis_runtime::clock;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode};

/// Longest that `Retry-After` is heeded: a receiver that says more is asked earlier, once in this time.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Most characters of an answer that stand in a reason.
const MAX_REASON_CHARS: usize = 300;

/// Why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// For what is in it: sending it again changes nothing.
    #[error("{0}")]
    Refused(String),
    /// It belongs to something that the receiver does not have, or not yet.
    #[error("{0}")]
    NotYet(String),
    /// For a reason that passes, or that an operator has to put right.
    #[error("{reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// The status of the answer, when there was one.
        status: Option<u16>,
        /// How long the receiver wants to be left alone.
        retry_after: Option<Duration>,
    },
}

/// A client for a receiver. Nothing is sent along that was not asked for: no cookies, no redirects.
///
/// # Errors
/// When the TLS provider can't be set up.
pub(crate) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("precis-monitor/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        // A key must not follow a redirect to another host.
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// Sends a request; the answer's body when it was taken.
pub(crate) async fn send(request: RequestBuilder) -> Result<Bytes, SendError> {
    let response = request.send().await.map_err(unreachable)?;
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let body = read(response).await;
    if status.is_success() {
        // The receiver has it: an answer that breaks off afterwards changes nothing about that.
        return Ok(body.unwrap_or_default());
    }
    let text = body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let text: String = text.trim().chars().take(MAX_REASON_CHARS).collect();
    let reason = match text.is_empty() {
        true => status.to_string(),
        false => format!("{status}: {text}"),
    };
    Err(match is_refusal_of_content(status) {
        true => SendError::Refused(reason),
        false => SendError::Unavailable {
            reason,
            status: Some(status.as_u16()),
            retry_after,
        },
    })
}

/// Statuses with which a receiver refuses what is in a request.
///
/// Every other one is no fault of what was sent: the receiver has a trouble (5xx), wants less (429), or an operator has
/// given a wrong key (401, 403) or address (404, 405, 3xx). What waits is kept until that is put right.
fn is_refusal_of_content(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 413 | 414 | 415 | 422)
}

async fn read(mut response: reqwest::Response) -> Option<Bytes> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            body.truncate(MAX_ANSWER_BYTES);
            break;
        }
    }
    (!body.is_empty()).then(|| body.into())
}

/// The error without its address, in which there may be a key, and with its causes.
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

/// Seconds or a date, as RFC 9110 has it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(clock::now())).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_a_request_is_a_reason_to_refuse_it() {
        let refused = |code: u16| is_refusal_of_content(StatusCode::from_u16(code).unwrap());
        assert!([400, 413, 422].into_iter().all(refused));
        assert!(![301, 401, 403, 404, 408, 429, 500, 503].into_iter().any(refused));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("99999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("Fri, 21 Oct 2095 07:28:00 GMT"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn an_address_is_not_told() {
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
