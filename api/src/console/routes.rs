//! Serves the console's files.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use precis_schemas::ErrorCode;

use super::files::{self, File};
use crate::gateway::state::AppState;
use crate::http::accept;
use crate::http::caching::lists_etag;
use crate::http::problem::ApiError;

/// A file whose name holds its version never changes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// A browser asks whether the file has changed.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// Headers of every file: only own scripts run, nothing is loaded from or sent to other hosts, and no other page can
/// show the console in a frame.
const PROTECTION: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        ),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];

/// Whether the client prefers a page to JSON, as browsers do.
pub(crate) fn prefers_page(headers: &HeaderMap) -> bool {
    let html = accept::weight(headers, "text/html");
    html > 0.0 && html >= accept::weight(headers, "application/json")
}

/// `GET /` for browsers.
pub(crate) fn page(state: &AppState, headers: &HeaderMap) -> Result<Response, ApiError> {
    let name = match files::has_libraries(state.console_libraries()) {
        true => "index.html",
        false => "missing.html",
    };
    let file =
        files::app(name).ok_or_else(|| ApiError::internal("the console's page is not in the program"))?;
    Ok(respond(file, headers, REVALIDATE))
}

/// `GET /console/{file}`.
pub(super) async fn file(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    own(&file, &headers)
}

/// `GET /console/{folder}/{file}`.
pub(super) async fn file_in_folder(
    State(state): State<AppState>,
    Path((folder, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = match folder.as_str() {
        "lib" => files::library(state.console_libraries(), &file),
        "samples" => files::sample(&file),
        _ => return own(&format!("{folder}/{file}"), &headers),
    };
    let caching = if folder == "lib" { FOR_EVER } else { REVALIDATE };
    match found {
        Some(found) => Ok(respond(found, &headers, caching)),
        None => Err(missing(&format!("{folder}/{file}"))),
    }
}

fn own(path: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    match files::app(path) {
        Some(file) => Ok(respond(file, headers, REVALIDATE)),
        None => Err(missing(path)),
    }
}

fn missing(path: &str) -> ApiError {
    let shown: String = path.chars().take(80).collect();
    ApiError::new(
        ErrorCode::RouteNotFound,
        format!("there is no route /console/{shown}"),
    )
}

fn respond(file: File, headers: &HeaderMap, caching: HeaderValue) -> Response {
    let gzip = accept::allows_gzip(headers);
    // A strong tag belongs to one encoding.
    let tag = match gzip {
        true => format!("\"{}-gzip\"", file.sha256),
        false => format!("\"{}\"", file.sha256),
    };
    let unchanged = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|listed| lists_etag(listed, &tag));
    let mut response = match (unchanged, gzip) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => with_body(file.media_type, file.gzip),
        (false, false) => with_body(file.media_type, file.plain),
    };
    let out = response.headers_mut();
    if gzip && !unchanged {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        out.insert(header::ETAG, tag);
    }
    out.insert(header::CACHE_CONTROL, caching);
    out.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    out.extend(PROTECTION);
    response
}

fn with_body(media_type: &'static str, body: Bytes) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))],
        body,
    )
        .into_response()
}
