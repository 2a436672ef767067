//! Errors as problem details (RFC 9457, `application/problem+json`).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::{Problem, Status};

/// The media type of a problem.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";
/// Longest `detail`, in characters. It may quote a long part of the request.
const MAX_DETAIL_CHARS: usize = 500;

/// A response extension: the error body is already written, in another service's format, and stays as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rendered;

/// The format of errors on some paths, for clients of another service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorFormat {
    /// Applies to every path that starts with this.
    pub(crate) path_prefix: &'static str,
    /// Writes an error. The response carries [`Rendered`].
    pub(crate) render: fn(ApiError) -> Response,
}

impl ErrorFormat {
    /// Rewrites a response that carries an [`ApiError`], and returns any other as it is.
    pub(crate) fn apply(&self, mut response: Response) -> Response {
        let Some(error) = response.extensions_mut().remove::<ApiError>() else {
            return response;
        };
        let (head, _) = response.into_parts();
        let mut rendered = (self.render)(error);
        // Keep `www-authenticate`, `ratelimit` and a precise `retry-after`. The rendered response sets the headers that
        // describe its body.
        for (name, value) in &head.headers {
            if !rendered.headers().contains_key(name) || *name == header::RETRY_AFTER {
                rendered.headers_mut().insert(name, value.clone());
            }
        }
        rendered.extensions_mut().extend(head.extensions);
        rendered
    }
}

/// The error of a request, on its way to becoming a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError(Box<Problem>);

impl ApiError {
    /// Creates an error with this code and detail.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal::new(code, message).into()
    }

    /// Logs `message` and creates an error that doesn't disclose it.
    pub(crate) fn internal(message: &str) -> Self {
        tracing::error!(error = message, "internal error");
        Self::new(
            ErrorCode::Internal,
            "an internal error occurred; the logs have the details under this request id",
        )
    }

    /// Adds the job that continues or that failed.
    #[must_use]
    pub(crate) fn of_job(mut self, handle: String) -> Self {
        self.0.job_id = Some(handle);
        self
    }

    /// Adds all jobs of a request with several texts, in their order.
    #[must_use]
    pub(crate) fn of_jobs(mut self, handles: Vec<String>) -> Self {
        self.0.job_ids = handles;
        self
    }

    /// Returns the problem, for another error format.
    pub(crate) fn into_problem(self) -> Problem {
        *self.0
    }

    /// Adds the state of the job.
    #[must_use]
    pub(crate) fn in_state(mut self, status: Status) -> Self {
        self.0.job_status = Some(status);
        self
    }

    /// Prefixes the detail with the part of the request that is wrong.
    #[must_use]
    pub(crate) fn at(mut self, part: &str) -> Self {
        self.0.detail = format!("{part}: {}", self.0.detail);
        self
    }

    /// The code and detail, without the parts that are specific to HTTP.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::new(self.0.code, self.0.detail.clone())
    }

    /// The error code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> ErrorCode {
        self.0.code
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Problem::from(&refusal);
        if let Some((cut, _)) = problem.detail.char_indices().nth(MAX_DETAIL_CHARS) {
            problem.detail.truncate(cut);
            problem.detail.push('…');
        }
        Self(Box::new(problem))
    }
}

/// Carries the error in the response's extensions. The outermost layer writes the body, because it knows the request
/// id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some(seconds) = retry_after(self.0.code) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Seconds after which the same request may succeed.
pub(crate) fn retry_after(code: ErrorCode) -> Option<u64> {
    match code {
        ErrorCode::QueueFull | ErrorCode::QuotaExceeded | ErrorCode::AnalyticsUnavailable => Some(5),
        ErrorCode::QueueUnavailable => Some(2),
        // The gate sets a precise value; this is the fallback.
        ErrorCode::RateLimited | ErrorCode::RequestTimeout => Some(1),
        ErrorCode::IdempotencyKeyInUse => Some(1),
        _ => None,
    }
}

/// Writes the body of an error response. Errors that didn't originate here, such as the router's, become problems too.
pub(crate) fn finish(mut response: Response, request_id: &str, method: &str, path: &str) -> Response {
    let status = response.status();
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if response.extensions().get::<Rendered>().is_some() => return response,
        None if status.is_client_error() || status.is_server_error() => from_status(status, method, path),
        None => return response,
    };
    let mut problem = error.0;
    problem.request_id = Some(request_id.to_owned());
    // A problem consists of strings and numbers: it always serializes.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let (mut head, _) = response.into_parts();
    head.status = StatusCode::from_u16(problem.status).unwrap_or(status);
    if let Some(seconds) = retry_after(problem.code) {
        head.headers
            .entry(header::RETRY_AFTER)
            .or_insert(HeaderValue::from(seconds));
    }
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Response::from_parts(head, body.into())
}

/// Creates the error for a response that has only a status.
fn from_status(status: StatusCode, method: &str, path: &str) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::new(ErrorCode::RouteNotFound, format!("there is no route {path}")),
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            ErrorCode::MethodNotAllowed,
            format!("{method} is not allowed on {path}"),
        ),
        StatusCode::SERVICE_UNAVAILABLE => ApiError::new(
            ErrorCode::QueueUnavailable,
            "the queue can't be reached at the moment",
        ),
        status if status.is_client_error() => {
            ApiError::new(ErrorCode::InvalidRequest, "the request is invalid")
        }
        status => ApiError::internal(&format!("unexpected status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_truncated() {
        let error = ApiError::new(ErrorCode::InvalidRequest, "é".repeat(2_000));
        assert_eq!(error.0.detail.chars().count(), MAX_DETAIL_CHARS + 1);
    }

    #[test]
    fn a_503_becomes_a_problem_with_retry_after() {
        let ready = finish("ready\n".into_response(), "r1", "GET", "/");
        assert_eq!(ready.status(), StatusCode::OK);
        for response in [
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
            ApiError::new(ErrorCode::QueueFull, "the queue is full").into_response(),
        ] {
            let response = finish(response, "r1", "GET", "/");
            assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
        }
    }
}
