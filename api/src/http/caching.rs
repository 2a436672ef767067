//! Headers for caches.

use http::{HeaderName, HeaderValue, header};

/// The header that makes caches revalidate a response about current state.
pub(crate) fn no_cache() -> (HeaderName, HeaderValue) {
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
}
