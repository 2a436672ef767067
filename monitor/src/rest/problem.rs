//! Error responses: RFC 9457 problem details, as the gateway returns them.

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use clickhouse::error::Error;
use http::StatusCode;
use precis_schemas::ErrorCode;
use precis_schemas::decode_error::explain_query;
use precis_schemas::error_code::Refusal;

use crate::database::explain;

/// An error response.
#[derive(Debug)]
pub(super) struct ProblemResponse(pub(super) Refusal);

impl ProblemResponse {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Refusal::new(code, message))
    }
}

impl From<Refusal> for ProblemResponse {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<BytesRejection> for ProblemResponse {
    fn from(rejection: BytesRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::BodyTooLarge,
            _ => ErrorCode::InvalidRequest,
        };
        Self::new(code, cut(&rejection.body_text()))
    }
}

impl From<QueryRejection> for ProblemResponse {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(
            ErrorCode::InvalidRequest,
            cut(&explain_query(&rejection.body_text())),
        )
    }
}

impl From<Error> for ProblemResponse {
    fn from(error: Error) -> Self {
        tracing::warn!(error = explain(&error), "query to ClickHouse failed");
        Self::new(
            ErrorCode::AnalyticsUnavailable,
            "the analytics database is unavailable; try again later",
        )
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        precis_runtime::problem::response(&self.0)
    }
}

/// Returns the first 400 characters of a message, which may quote a whole article.
pub(super) fn cut(message: &str) -> String {
    message.chars().take(400).collect()
}
