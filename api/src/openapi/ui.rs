//! Swagger UI at `/docs`. Its files are in the program (`api/assets/swagger-ui/`), so that nothing is fetched from
//! elsewhere.

use std::io::Read;

use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, header};
use precis_schemas::ErrorCode;

use crate::http::problem::ApiError;

/// Name, media type, and the file compressed with gzip.
const ASSETS: [(&str, &str, &[u8]); 2] = [
    (
        "swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz"),
    ),
    (
        "swagger-ui.css",
        "text/css; charset=utf-8",
        include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz"),
    ),
];

/// `GET /docs`.
pub(crate) async fn page() -> impl IntoResponse {
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:",
    );
    (
        [(header::CONTENT_SECURITY_POLICY, POLICY)],
        Html(include_str!("docs.html")),
    )
}

/// `GET /docs/{file}`.
pub(crate) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let Some((_, media_type, compressed)) = ASSETS.iter().find(|(name, ..)| *name == file) else {
        let shown: String = file.chars().take(80).collect();
        return Err(ApiError::new(
            ErrorCode::RouteNotFound,
            format!("there is nothing at /docs/{shown}"),
        ));
    };
    let mut response = if takes_gzip(&headers) {
        let encoding = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        ([encoding], *compressed).into_response()
    } else {
        unpacked(compressed)
            .map_err(|error| ApiError::internal(&format!("an embedded file: {error}")))?
            .into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
    Ok(response)
}

/// Whether the client names gzip among what it can unpack, and doesn't rule it out.
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            is_gzip && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
        })
}

fn unpacked(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut plain)?;
    Ok(plain)
}
