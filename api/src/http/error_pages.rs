//! `GET /errors` and `GET /errors/{code}`: the pages of `docs/errors/`.

use axum::extract::Path;
use axum::response::IntoResponse;
use http::header;
use precis_schemas::ErrorCode;

use crate::http::problem::ApiError;

macro_rules! pages {
    ($($code:literal)+) => {
        /// Every error code with its page.
        const PAGES: &[(&str, &str)] = &[$((
            $code,
            include_str!(concat!("../../../docs/errors/", $code, ".md")),
        ),)+];
    };
}

pages! {
    "invalid_request"
    "invalid_parameter"
    "empty_text"
    "text_too_long"
    "body_too_large"
    "unsupported_media_type"
    "uri_too_long"
    "request_timeout"
    "unauthorized"
    "forbidden"
    "host_not_allowed"
    "cross_origin_refused"
    "rate_limited"
    "quota_exceeded"
    "callback_refused"
    "callback_failed"
    "unknown_model"
    "deadline_exceeded"
    "cancelled"
    "job_finished"
    "idempotency_key_reused"
    "idempotency_key_in_use"
    "job_not_found"
    "job_gone"
    "query_not_found"
    "batch_not_found"
    "dead_letter_not_found"
    "not_replayable"
    "route_not_found"
    "method_not_allowed"
    "not_implemented"
    "queue_full"
    "queue_unavailable"
    "needs_queue"
    "analytics_unavailable"
    "wait_timeout"
    "too_many_attempts"
    "inference_failed"
    "internal"
}

const INDEX: &str = include_str!("../../../docs/errors/README.md");

fn markdown(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text)
}

/// `GET /errors`: the format of errors and a list of the codes.
pub(crate) async fn index() -> impl IntoResponse {
    markdown(INDEX)
}

/// `GET /errors/{code}`: the meaning of a code and its remedy.
pub(crate) async fn page(Path(code): Path<String>) -> Result<impl IntoResponse, ApiError> {
    // The pages link to each other by file name.
    let code = code.strip_suffix(".md").unwrap_or(&code);
    PAGES
        .iter()
        .find(|(name, _)| *name == code)
        .map(|(_, text)| markdown(text))
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::RouteNotFound,
                format!("there is no error code {code:?}; see /errors for a list"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_with_its_status_and_title() {
        let names: Vec<&str> = PAGES.iter().map(|(name, _)| *name).collect();
        let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names, codes);
        for (code, (_, page)) in ErrorCode::ALL.iter().zip(PAGES) {
            assert!(page.starts_with(&format!("# `{code}`\n")), "{code}");
            assert!(
                page.contains(&format!("HTTP status: **{} ", code.http_status())),
                "{code}"
            );
            let example = page.split("```").nth(1).unwrap().strip_prefix("json").unwrap();
            let problem: precis_schemas::rest::Problem = serde_json::from_str(example).unwrap();
            assert_eq!((problem.code, problem.status), (*code, code.http_status()));
            assert_eq!(
                (problem.kind, problem.title.as_str()),
                (code.doc_path(), code.title())
            );
            assert!(page.contains("## What to do"), "{code}");
            assert!(INDEX.contains(&format!(
                "| [`{code}`]({code}.md) | {} | {} |",
                code.http_status(),
                code.title()
            )));
        }
    }
}
