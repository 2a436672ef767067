//! The extractor of JSON bodies.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::header;
use precis_runtime::http_server::foreign_coding;
use precis_schemas::decode_error::in_json_terms;
use precis_schemas::{ErrorCode, strict_json};
use serde::de::DeserializeOwned;

use super::problem::{ProblemResponse, cut};

/// Extracts a JSON object of type `T` from the body.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, state: &S) -> Result<Self, ProblemResponse> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let essence = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let is_json = essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"));
        if !is_json {
            return Err(ProblemResponse::new(
                ErrorCode::UnsupportedMediaType,
                format!("the content type is {essence:?}; send application/json"),
            ));
        }
        if let Some(coding) = foreign_coding(request.headers()) {
            return Err(ProblemResponse::new(
                ErrorCode::UnsupportedMediaType,
                format!(
                    "the body has the content coding {coding:?}; send it as it is, without content-encoding"
                ),
            ));
        }
        let body = Bytes::from_request(request, state).await?;
        strict_json::from_slice(&body).map(Self).map_err(|error| {
            let error = in_json_terms(&error.to_string());
            let message = format!("the body is not the expected JSON object: {error}");
            ProblemResponse::new(ErrorCode::InvalidRequest, cut(&message))
        })
    }
}
