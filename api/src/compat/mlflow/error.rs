//! Errors as MLflow's scoring server writes them.

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderValue, StatusCode, header};
use precis_schemas::ErrorCode;
use serde::Serialize;

use crate::http::problem::{ApiError, Rendered, retry_after};

/// MLflow's hint for clients that use the request format of version 1.
const PROTOCOL_CHANGED: &str = "IMPORTANT: The MLflow Model scoring protocol has changed in MLflow version 2.0. If you \
    are seeing this error, you are likely using an outdated scoring request format. To resolve the error, either update \
    your request format or adjust your MLflow Model's requirements file to specify an older version of MLflow (for \
    example, change the 'mlflow' requirement specifier to 'mlflow==1.30.0'). If you are making a request using the \
    MLflow client (e.g. via `mlflow.pyfunc.spark_udf()`), upgrade your MLflow client to a version >= 2.0 in order to use \
    the new request format. For more information about the updated MLflow Model scoring protocol in MLflow 2.0, see \
    https://mlflow.org/docs/latest/models.html#deploy-mlflow-models.";

/// The fields of which a body has exactly one, as MLflow lists them.
const FORMATS: &str = "{'dataframe_split', 'instances', 'dataframe_records', 'inputs'}";

/// An error of MLflow's scoring server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MlflowError {
    /// 400 and 5xx: a JSON object.
    Json(Box<Body>),
    /// 415: plain text.
    MediaType(String),
}

/// The JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Body {
    /// MLflow's error code.
    pub(crate) error_code: &'static str,
    /// The message.
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlstate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'static str>,
    /// Precis' error code, if the error has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    /// The job that continues or that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// All jobs of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    job_ids: Vec<String>,
    #[serde(skip)]
    status: StatusCode,
}

impl MlflowError {
    /// The input is invalid.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::invalid("BAD_REQUEST", message.into(), "KAM00", "INVALID_PARAMETER_VALUE")
    }

    /// The column `article` is missing. `extra` lists the columns that exist, as Python writes a list.
    pub(crate) fn missing_column(extra: &str) -> Self {
        let note = match extra {
            "[]" => String::new(),
            extra => format!(" Note that there were extra inputs: {extra}."),
        };
        Self::schema(&format!("Model is missing inputs ['article'].{note}"))
    }

    /// The table does not fit the model's signature.
    pub(crate) fn schema(problem: &str) -> Self {
        Self::invalid(
            "INVALID_PARAMETER_VALUE",
            format!(
                "Failed to enforce schema of data with schema '['article': string (required)]'. Error: {problem}"
            ),
            "KAM01",
            "SCHEMA_ENFORCEMENT_FAILED",
        )
    }

    /// The model can't process a value. `cause` says which.
    pub(crate) fn model_failed(cause: &str) -> Self {
        Self::bad_request(format!(
            "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is \
             compatible with the model for inference. {cause}"
        ))
    }

    /// The body does not have exactly one of the four fields. `received` lists those it has, as Python writes a list.
    pub(crate) fn formats(received: &str) -> Self {
        Self::bad_request(format!(
            "The input must be a JSON dictionary with exactly one of the input fields {FORMATS}. Received dictionary with \
             input fields: {received}. {PROTOCOL_CHANGED}"
        ))
    }

    /// The body is JSON but no object. `kind` is its Python type.
    pub(crate) fn no_dictionary(kind: &str) -> Self {
        let received = match kind {
            "list" => "a list".to_owned(),
            kind => format!("unexpected input type '<class '{kind}'>"),
        };
        Self::bad_request(format!(
            "Invalid input. The input must be a JSON dictionary with exactly one of the input fields {FORMATS}. Received \
             {received}."
        ))
    }

    /// The content type is not supported.
    pub(crate) fn media_type(given: &str) -> Self {
        Self::MediaType(format!(
            "This predictor only supports the following content types: Types: ['text/csv', 'application/json']. Got \
             '{given}'."
        ))
    }

    /// A parameter of the content type is not supported.
    pub(crate) fn media_type_parameter(name: &str) -> Self {
        Self::MediaType(format!(
            "Unrecognized content type parameters: {name}. {PROTOCOL_CHANGED}"
        ))
    }

    fn invalid(
        error_code: &'static str,
        message: String,
        sqlstate: &'static str,
        error_class: &'static str,
    ) -> Self {
        Self::Json(Box::new(Body {
            error_code,
            message,
            sqlstate: Some(sqlstate),
            error_class: Some(error_class),
            code: None,
            job_id: None,
            job_ids: Vec::new(),
            status: StatusCode::BAD_REQUEST,
        }))
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Json(body) => body.status,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// Converts an error of Precis. MLflow reports a job on which the model failed as 400.
impl From<ApiError> for MlflowError {
    fn from(error: ApiError) -> Self {
        let problem = error.into_problem();
        let (status, error_code) = match problem.code.http_status() {
            401 => (401, "UNAUTHENTICATED"),
            403 => (403, "PERMISSION_DENIED"),
            429 => (429, "REQUEST_LIMIT_EXCEEDED"),
            503 => (503, "TEMPORARILY_UNAVAILABLE"),
            504 => (504, "DEADLINE_EXCEEDED"),
            413 => (413, "BAD_REQUEST"),
            500 if problem.code == ErrorCode::InferenceFailed => (400, "BAD_REQUEST"),
            500.. => (500, "INTERNAL_ERROR"),
            _ => (400, "INVALID_PARAMETER_VALUE"),
        };
        Self::Json(Box::new(Body {
            error_code,
            message: problem.detail,
            sqlstate: None,
            error_class: None,
            code: Some(problem.code),
            job_id: problem.job_id,
            job_ids: problem.job_ids,
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }))
    }
}

impl IntoResponse for MlflowError {
    fn into_response(self) -> Response {
        let status = self.status();
        match self {
            Self::MediaType(message) => (status, Extension(Rendered), message).into_response(),
            Self::Json(body) => {
                let seconds = body.code.and_then(retry_after);
                let mut response = (status, Extension(Rendered), Json(body)).into_response();
                if let Some(seconds) = seconds {
                    let headers = response.headers_mut();
                    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                response
            }
        }
    }
}
