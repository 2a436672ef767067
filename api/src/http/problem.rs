//! Refusals as HTTP answers: RFC 9457, `application/problem+json`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::{Problem, Status};

/// Media type of a problem.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";
/// Longest `detail`, in characters: what is quoted from a request may be long.
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
        // `www-authenticate`, `ratelimit` and a precise `retry-after` stay. Headers that describe the body are the new one's.
        for (name, value) in &head.headers {
            if !rendered.headers().contains_key(name) || *name == header::RETRY_AFTER {
                rendered.headers_mut().insert(name, value.clone());
            }
        }
        rendered.extensions_mut().extend(head.extensions);
        rendered
    }
}

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError(Box<Problem>);

impl ApiError {
    /// An error with its message.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal::new(code, message).into()
    }

    /// A defect: `message` goes to the log, and not to the client.
    pub(crate) fn internal(message: &str) -> Self {
        tracing::error!(error = message, "a request failed inside");
        Self::new(
            ErrorCode::Internal,
            "something went wrong inside; the logs have the details under this request id",
        )
    }

    /// Adds the job that goes on, or that failed.
    #[must_use]
    pub(crate) fn of_job(mut self, handle: String) -> Self {
        self.0.job_id = Some(handle);
        self
    }

    /// Adds all jobs of a request that had several texts, in the order of the texts.
    #[must_use]
    pub(crate) fn of_jobs(mut self, handles: Vec<String>) -> Self {
        self.0.job_ids = handles;
        self
    }

    /// The problem, to be written in another shape.
    pub(crate) fn into_problem(self) -> Problem {
        *self.0
    }

    /// Adds the state of that job.
    #[must_use]
    pub(crate) fn in_state(mut self, status: Status) -> Self {
        self.0.job_status = Some(status);
        self
    }

    /// Says in front of the message which part of the request it is about.
    #[must_use]
    pub(crate) fn at(mut self, part: &str) -> Self {
        self.0.detail = format!("{part}: {}", self.0.detail);
        self
    }

    /// What it says, without what belongs to HTTP.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::new(self.0.code, self.0.detail.clone())
    }

    /// Whether the request was larger than allowed.
    pub(crate) fn is_too_large(&self) -> bool {
        self.0.code == ErrorCode::BodyTooLarge
    }

    /// The code.
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

/// The problem travels in the extensions: the outermost layer, which knows the request's id, writes it.
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

/// After how many seconds the same request may succeed.
pub(crate) fn retry_after(code: ErrorCode) -> Option<u64> {
    match code {
        ErrorCode::QueueFull | ErrorCode::QuotaExceeded | ErrorCode::AnalyticsUnavailable => Some(5),
        ErrorCode::QueueUnavailable => Some(2),
        // The gate knows better; this is for whoever does not.
        ErrorCode::RateLimited | ErrorCode::RequestTimeout => Some(1),
        ErrorCode::IdempotencyKeyInUse => Some(1),
        _ => None,
    }
}

/// The response as it goes out: a problem is written, and what another layer has refused becomes one.
pub(crate) fn finish(mut response: Response, request_id: &str, method: &str, path: &str) -> Response {
    let status = response.status();
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if response.extensions().get::<Rendered>().is_some() => return response,
        None if status.is_client_error() || status.is_server_error() => foreign(status, method, path),
        None => return response,
    };
    let mut problem = error.0;
    problem.request_id = Some(request_id.to_owned());
    // A problem has only strings and numbers, so that writing it can't fail.
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

/// A refusal that was not made here but, for example, by the router.
fn foreign(status: StatusCode, method: &str, path: &str) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => {
            ApiError::new(ErrorCode::RouteNotFound, format!("there is nothing at {path}"))
        }
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            ErrorCode::MethodNotAllowed,
            format!("{method} is not allowed on {path}"),
        ),
        StatusCode::SERVICE_UNAVAILABLE => ApiError::new(
            ErrorCode::QueueUnavailable,
            "the queue can't be reached at the moment",
        ),
        status if status.is_client_error() => {
            ApiError::new(ErrorCode::InvalidRequest, "the request can't be read")
        }
        status => ApiError::internal(&format!("unexpected status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_cut() {
        let error = ApiError::new(ErrorCode::InvalidRequest, "é".repeat(2_000));
        assert_eq!(error.0.detail.chars().count(), MAX_DETAIL_CHARS + 1);
    }

    #[test]
    fn a_success_goes_out_as_it_is_and_a_503_says_when_to_come_back() {
        let fine = finish("ready\n".into_response(), "r1", "GET", "/");
        assert_eq!(fine.status(), StatusCode::OK);
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
