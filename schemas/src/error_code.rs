//! Every way in which a request can be refused or a job can fail: a stable code, one HTTP status, one
//! page under `docs/errors/`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $title:literal, $retry:literal;)+) => {
        /// Stable code of an error. Clients may branch on it; messages may change, codes don't.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[$doc])* $variant,)+ }

        impl ErrorCode {
            /// Every code, in order of appearance in the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code on the wire, such as `queue_full`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The HTTP status with which REST answers.
            pub fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// A short title that is the same for every occurrence (RFC 9457, `title`).
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// Whether the same request may succeed later without a change.
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retry,)+ }
            }
        }
    };
}

codes! {
    /// The request is not what the contract describes: not JSON, a wrong type, a missing or unknown field.
    InvalidRequest = "invalid_request", 400, "The request is malformed", false;
    /// A parameter is outside its bounds, or two contradict each other.
    InvalidParameter = "invalid_parameter", 422, "A parameter is out of bounds", false;
    /// There is no text, or only white space.
    EmptyText = "empty_text", 422, "The text is empty", false;
    /// The text has more characters than this deployment takes.
    TextTooLong = "text_too_long", 422, "The text is too long", false;
    /// The HTTP body has more bytes than this deployment takes.
    BodyTooLarge = "body_too_large", 413, "The body is too large", false;
    /// The body is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, "The media type is not supported", false;
    /// The path and query have more bytes than this deployment takes.
    UriTooLong = "uri_too_long", 414, "The URI is too long", false;
    /// The body of the request did not arrive in time.
    RequestTimeout = "request_timeout", 408, "The request did not arrive in time", true;
    /// The route needs an API key, and there is none, or it is not known.
    Unauthorized = "unauthorized", 401, "An API key is needed", false;
    /// The API key does not allow this.
    Forbidden = "forbidden", 403, "The API key does not allow this", false;
    /// The API key has sent more requests than it may.
    RateLimited = "rate_limited", 429, "Too many requests", true;
    /// The API key has as many jobs in the queue as it may.
    QuotaExceeded = "quota_exceeded", 429, "Too many jobs in the queue", true;
    /// The address may not be called back, or there is no secret to sign with.
    CallbackRefused = "callback_refused", 422, "The callback address is not allowed", false;
    /// The receiver of a webhook did not take it until its deadline, or wants no more. Only in dead letters.
    CallbackFailed = "callback_failed", 502, "The webhook was not taken", false;
    /// No worker serves a model of that name.
    UnknownModel = "unknown_model", 422, "No worker serves this model", true;
    /// The deadline has passed before the job was done, or before it was submitted.
    DeadlineExceeded = "deadline_exceeded", 504, "The deadline has passed", false;
    /// The client cancelled the job.
    Cancelled = "cancelled", 409, "The job was cancelled", false;
    /// The job has ended already.
    JobFinished = "job_finished", 409, "The job has ended already", false;
    /// The `Idempotency-Key` was used with another request.
    IdempotencyKeyReused = "idempotency_key_reused", 422, "The key was used with another request", false;
    /// The first request with this `Idempotency-Key` is still being accepted.
    IdempotencyKeyInUse = "idempotency_key_in_use", 409, "The first request with this key is not accepted yet", true;
    /// There is no job of that id.
    JobNotFound = "job_not_found", 404, "There is no such job", false;
    /// There was such a job, and its result is kept no longer.
    JobGone = "job_gone", 410, "The job's result is no longer kept", false;
    /// There is no named query of that name.
    QueryNotFound = "query_not_found", 404, "There is no such query", false;
    /// There is no batch of that id, or none any more.
    BatchNotFound = "batch_not_found", 404, "There is no such batch", false;
    /// There is no such route.
    RouteNotFound = "route_not_found", 404, "There is no such route", false;
    /// The route does not take this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here", false;
    /// The queue is full; come back after `Retry-After`.
    QueueFull = "queue_full", 503, "The queue is full", true;
    /// The message queue can't be reached.
    QueueUnavailable = "queue_unavailable", 503, "The queue is unavailable", true;
    /// This gateway works without a queue, and this needs one.
    NeedsQueue = "needs_queue", 501, "This needs a queue", false;
    /// The analytics database can't be reached, or takes too long.
    AnalyticsUnavailable = "analytics_unavailable", 503, "The analytics database is unavailable", true;
    /// The answer did not come within the time that the client was ready to wait.
    WaitTimeout = "wait_timeout", 504, "The summary was not ready in time", true;
    /// The job was delivered to workers as often as allowed and none of them finished it.
    TooManyAttempts = "too_many_attempts", 500, "No worker could finish the job", true;
    /// The model failed on this text.
    InferenceFailed = "inference_failed", 500, "The model failed on this text", true;
    /// A defect of Precis.
    Internal = "internal", 500, "Something went wrong inside", true;
}

impl ErrorCode {
    /// Path of the page that explains the code and its remedy, as the API serves it.
    pub fn doc_path(self) -> String {
        format!("/errors/{}", self.as_str())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request is refused or a job failed: the code for programs, the message for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Stable code.
    pub code: ErrorCode,
    /// What exactly was wrong, with the offending value where that is safe to repeat.
    pub message: String,
}

impl Refusal {
    /// A refusal with its message.
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
    fn the_code_on_the_wire_is_the_code_of_the_documentation() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.http_status()));
        }
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
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
