//! Refusals of the monitoring service: RFC 9457 problem details, as the gateway answers them.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use clickhouse::error::Error;
use http::{HeaderValue, StatusCode, header};
use precis_schemas::ErrorCode;
use precis_schemas::error_code::Refusal;
use precis_schemas::rest::Problem;

use crate::database::explain;

/// A request that is refused.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Refusal);

impl Refused {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Refusal::new(code, message))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::UnsupportedMediaType,
            _ => ErrorCode::InvalidRequest,
        };
        Self::new(code, cut(&rejection.body_text()))
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(ErrorCode::InvalidRequest, cut(&rejection.body_text()))
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        tracing::warn!(error = explain(&error), "ClickHouse did not answer");
        Self::new(
            ErrorCode::AnalyticsUnavailable,
            "the analytics database can't answer at the moment",
        )
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let problem = Problem::from(&self.0);
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// A message that may quote a whole article, at bounded length.
fn cut(message: &str) -> String {
    message.chars().take(400).collect()
}
