//! Writes refusals as problem details (RFC 9457), for the HTTP services of all roles but the gateway.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use precis_schemas::error_code::Refusal;
use precis_schemas::rest::Problem;

/// Writes a refusal as `application/problem+json`.
pub fn response(refusal: &Refusal) -> Response {
    let problem = Problem::from(refusal);
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
