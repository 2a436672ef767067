//! Which web pages may call (CORS).

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember what it was allowed.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The layer for pages of these origins (`*`: of all); none when there is no origin, and then no page may
/// call. Cookies are never asked for: a page sends a key, as everybody does.
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
    let sent = [
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
    let seen = [
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
            .allow_headers(sent.map(HeaderName::from_static))
            .expose_headers(seen.map(HeaderName::from_static))
            .max_age(MAX_AGE),
    )
}
