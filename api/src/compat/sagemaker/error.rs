//! Errors of the SageMaker runtime. A header names the exception that clients raise.

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderName, HeaderValue, StatusCode, header};
use precis_schemas::ErrorCode;
use serde_json::{Value, json};

use crate::compat::invocation::InvocationError;
use crate::compat::mlflow::error::MlflowError;
use crate::http::problem::{ApiError, ErrorFormat, Rendered, retry_after};

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The format of errors on the paths of endpoints, such as a missing key or a rate limit.
pub(crate) const ERROR_FORMAT: ErrorFormat = ErrorFormat {
    path_prefix: "/endpoints/",
    render: |error| SageMakerError::from(error).into_response(),
};

/// An error of an endpoint.
#[derive(Debug)]
pub(crate) struct SageMakerError {
    status: StatusCode,
    kind: &'static str,
    body: Value,
    retry_after: Option<u64>,
}

impl SageMakerError {
    /// The endpoint is not configured.
    pub(crate) fn no_such_endpoint(name: &str) -> Self {
        let name: String = name.chars().take(80).collect();
        Self::new(400, "ValidationError", &format!("Endpoint {name} not found"))
    }

    fn new(status: u16, kind: &'static str, message: &str) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            kind,
            body: json!({ "Message": message }),
            retry_after: None,
        }
    }

    /// An error response of the model's container.
    fn from_container(status: u16, http_status: u16, message: &str, original: &str) -> Self {
        let (side, code) = match status {
            400..500 => ("client", "CLIENT_ERROR_FROM_MODEL"),
            _ => ("server", "INTERNAL_FAILURE_FROM_MODEL"),
        };
        Self {
            body: json!({
                "ErrorCode": code,
                "LogStreamArn": "",
                "Message": format!("Received {side} error ({status}) from primary with message \"{message}\""),
                "OriginalMessage": original,
                "OriginalStatusCode": status,
            }),
            ..Self::new(http_status, "ModelError", "")
        }
    }
}

impl From<ApiError> for SageMakerError {
    fn from(error: ApiError) -> Self {
        let problem = error.into_problem();
        let retry_after = retry_after(problem.code);
        let original = serde_json::to_string(&problem).unwrap_or_default();
        let message = problem.detail.as_str();
        let error = match (problem.code, problem.code.http_status()) {
            (ErrorCode::UnknownModel, _) => Self::new(429, "ModelNotReadyException", message),
            (ErrorCode::BodyTooLarge | ErrorCode::RequestTimeout | ErrorCode::UriTooLong, _) => {
                Self::new(400, "ValidationError", message)
            }
            (_, 401 | 403) => Self::new(403, "AccessDeniedException", message),
            (_, 429) => Self::new(429, "ThrottlingException", message),
            (_, 503) => Self::new(503, "ServiceUnavailable", message),
            (ErrorCode::Internal, _) => Self::new(500, "InternalFailure", message),
            // A client that repeats the call waits for the same jobs.
            (_, status @ 504) => Self::from_container(status, 504, message, &original),
            (_, status) => Self::from_container(status, 424, message, &original),
        };
        Self { retry_after, ..error }
    }
}

impl From<InvocationError> for SageMakerError {
    fn from(error: InvocationError) -> Self {
        match error {
            InvocationError::Problem(error) => error.into(),
            InvocationError::Mlflow(MlflowError::MediaType(message)) => {
                Self::from_container(415, 424, &message, &message)
            }
            InvocationError::Mlflow(MlflowError::Json(body)) => {
                let original = serde_json::to_string(&body).unwrap_or_default();
                Self::from_container(400, 424, &body.message, &original)
            }
        }
    }
}

impl IntoResponse for SageMakerError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Extension(Rendered), Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
