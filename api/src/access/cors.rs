//! Cross-origin requests of web pages (CORS).

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may cache a preflight response.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Returns the layer that allows pages of these origins to call (`*` allows all), or `None` without origins. Pages
/// authenticate with a key, never with cookies.
pub(crate) fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        )
    };
    let request_headers = [
        "authorization",
        "content-type",
        "idempotency-key",
        "if-none-match",
        "last-event-id",
        "prefer",
        "traceparent",
        "tracestate",
        "x-api-key",
        "x-request-id",
    ];
    let response_headers = [
        "etag",
        "idempotent-replayed",
        "location",
        "preference-applied",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "server-timing",
        "traceparent",
        "x-request-id",
    ];
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
            .allow_headers(request_headers.map(HeaderName::from_static))
            .expose_headers(response_headers.map(HeaderName::from_static))
            .max_age(MAX_AGE),
    )
}
