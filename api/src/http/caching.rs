//! Headers for caches.

use http::{HeaderName, HeaderValue, header};

/// The header that makes caches revalidate a response about current state.
pub(crate) fn no_cache() -> (HeaderName, HeaderValue) {
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
}

/// Compares a tag with a list of tags by weak comparison (RFC 9110, 13.1.2).
pub(crate) fn lists_etag(header: &str, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.trim() == "*" || header.split(',').any(|other| opaque(other) == opaque(tag))
}
