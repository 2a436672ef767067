//! Error codes of refused requests and failed jobs. Each has an HTTP status and a page under `docs/errors/`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $title:literal, $retry:literal;)+) => {
        /// Stable error code. Clients may branch on it: messages may change, codes don't.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[$doc])* $variant,)+ }

        impl ErrorCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the code on the wire, such as `queue_full`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Returns the HTTP status.
            pub fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Returns the title, the same for every occurrence (RFC 9457, `title`).
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// Reports whether the same request may succeed later.
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retry,)+ }
            }
        }
    };
}

codes! {
    /// The request violates the contract: invalid JSON, a wrong type, a missing or unknown field.
    InvalidRequest = "invalid_request", 400, "The request is malformed", false;
    /// A parameter is out of bounds, or two contradict each other.
    InvalidParameter = "invalid_parameter", 422, "A parameter is out of bounds", false;
    /// The text is missing or blank.
    EmptyText = "empty_text", 422, "The text is empty", false;
    /// The text has more characters than the deployment allows.
    TextTooLong = "text_too_long", 422, "The text is too long", false;
    /// The HTTP body has more bytes than the deployment allows.
    BodyTooLarge = "body_too_large", 413, "The body is too large", false;
    /// The body is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, "The media type is not supported", false;
    /// Path and query have more bytes than the deployment allows.
    UriTooLong = "uri_too_long", 414, "The URI is too long", false;
    /// The body of the request did not arrive in time.
    RequestTimeout = "request_timeout", 408, "The request did not arrive in time", true;
    /// The route requires an API key, and the key is missing or unknown.
    Unauthorized = "unauthorized", 401, "An API key is needed", false;
    /// The API key does not allow this.
    Forbidden = "forbidden", 403, "The API key does not allow this", false;
    /// The request names a host under which the listener is not served.
    HostNotAllowed = "host_not_allowed", 421, "The host name is not allowed", false;
    /// A web page of another origin sent the request.
    CrossOriginRefused = "cross_origin_refused", 403, "Requests from this origin are not allowed", false;
    /// The API key exceeded its request rate.
    RateLimited = "rate_limited", 429, "Too many requests", true;
    /// The API key reached its limit of queued jobs.
    QuotaExceeded = "quota_exceeded", 429, "The quota of queued jobs is used up", true;
    /// The callback address is not allowed, or no secret can sign the webhook.
    CallbackRefused = "callback_refused", 422, "The callback address is not allowed", false;
    /// The receiver did not accept the webhook before its deadline, or rejected further attempts. Only in dead letters.
    CallbackFailed = "callback_failed", 502, "The receiver did not accept the webhook", false;
    /// No worker serves a model of this name.
    UnknownModel = "unknown_model", 422, "No worker serves this model", true;
    /// The deadline passed before the job ended or was submitted.
    DeadlineExceeded = "deadline_exceeded", 504, "The deadline has passed", false;
    /// The client cancelled the job.
    Cancelled = "cancelled", 409, "The job was cancelled", false;
    /// The job has ended already.
    JobFinished = "job_finished", 409, "The job has ended already", false;
    /// The idempotency key was used with another request.
    IdempotencyKeyReused = "idempotency_key_reused", 422, "The key was used with another request", false;
    /// The first request with this idempotency key is still being accepted.
    IdempotencyKeyInUse = "idempotency_key_in_use", 409, "The first request with this key is not accepted yet", true;
    /// The job does not exist.
    JobNotFound = "job_not_found", 404, "There is no such job", false;
    /// The job existed, but its result has expired.
    JobGone = "job_gone", 410, "The job's result is no longer kept", false;
    /// The named query does not exist.
    QueryNotFound = "query_not_found", 404, "There is no such query", false;
    /// The batch does not exist, or has expired.
    BatchNotFound = "batch_not_found", 404, "There is no such batch", false;
    /// The dead letter does not exist, or has expired.
    DeadLetterNotFound = "dead_letter_not_found", 404, "There is no such dead letter", false;
    /// The dead letter can't be put back into a queue.
    NotReplayable = "not_replayable", 409, "The dead letter can't be replayed", false;
    /// The route does not exist.
    RouteNotFound = "route_not_found", 404, "There is no such route", false;
    /// The route does not allow this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here", false;
    /// The request uses a part of HTTP that this gateway does not implement.
    NotImplemented = "not_implemented", 501, "This is not implemented", false;
    /// The queue is full. Retry after `Retry-After`.
    QueueFull = "queue_full", 503, "The queue is full", true;
    /// The message queue is unreachable.
    QueueUnavailable = "queue_unavailable", 503, "The queue is unavailable", true;
    /// The route needs a queue, and this gateway runs without one.
    NeedsQueue = "needs_queue", 501, "This feature needs a queue", false;
    /// The analytics database is unreachable or too slow.
    AnalyticsUnavailable = "analytics_unavailable", 503, "The analytics database is unavailable", true;
    /// The result was not ready within the time that the client waited.
    WaitTimeout = "wait_timeout", 504, "The summary was not ready in time", true;
    /// The job reached its maximum number of deliveries, and no worker finished it.
    TooManyAttempts = "too_many_attempts", 500, "No worker could finish the job", true;
    /// The model failed on this text.
    InferenceFailed = "inference_failed", 500, "The model failed on this text", true;
    /// A bug in Precis.
    Internal = "internal", 500, "An internal error occurred", true;
}

impl ErrorCode {
    /// Returns the path of the gateway's page that explains the code and its remedy.
    pub fn doc_path(self) -> String {
        format!("/errors/{}", self.as_str())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request was refused or a job failed: the code is for programs, the message for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Stable code.
    pub code: ErrorCode,
    /// Description of the problem, with the offending value if it is safe to repeat.
    pub message: String,
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_serialize_as_documented() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.http_status()));
        }
    }

    #[test]
    fn every_code_has_a_page_and_vice_versa() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors");
        for code in ErrorCode::ALL {
            let page = std::fs::read_to_string(format!("{folder}/{code}.md"))
                .unwrap_or_else(|error| panic!("docs/errors/{code}.md: {error}"));
            assert!(
                page.starts_with(&format!("# `{code}`")),
                "docs/errors/{code}.md has another title"
            );
        }
        let pages = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(
            pages,
            ErrorCode::ALL.len() + 1,
            "one page per code, and README.md"
        );
    }
}
