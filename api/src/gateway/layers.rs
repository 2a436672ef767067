//! Layers around all routes: request id, trace, log line, metrics, authentication and error bodies.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use precis_runtime::browser_guard::BrowserGuard;
use precis_runtime::config::HttpConfig;
use precis_runtime::spans::{self, Span, SpanKind, SpanStart};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::headers::{TRACEPARENT, TRACESTATE};
use precis_schemas::{ErrorCode, Token};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::access::{self, Caller, Gate};
use crate::http::problem::{self, ApiError, ErrorFormat};
use crate::http::unread_body::UnreadBody;
use crate::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER_TIMING: &str = "server-timing";
/// Longest request id that a client may set, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Returns the client's request id if it consists of 1 to 128 visible ASCII characters, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers
        .get(&REQUEST_ID)
        .map(HeaderValue::as_bytes)
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic))
        .and_then(|id| std::str::from_utf8(id).ok());
    match given {
        Some(id) => id.into(),
        None => uuid::Uuid::now_v7().simple().to_string().into(),
    }
}

/// Returns the client's trace context, if it sent one.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(TRACEPARENT)?.to_str().ok();
    // Repeated fields form one list (RFC 9110, 5.3).
    let states = headers.get_all(TRACESTATE).iter();
    let states: Vec<&str> = states.filter_map(|value| value.to_str().ok()).collect();
    let state = (!states.is_empty()).then(|| states.join(","));
    TraceContext::read(parent, state.as_deref())
}

/// Starts the span of a request, as a child of the client's span if there is one.
fn span(method: &'static str, route: &str, parent: Option<&TraceContext>) -> Span {
    let name = match spans::enabled() {
        true => format!("{method} {route}").into(),
        false => "request".into(),
    };
    let mut span = Span::begin(SpanStart {
        name,
        kind: SpanKind::Server,
        parent,
        at: None,
    });
    if spans::enabled() {
        span.set("http.request.method", method);
        span.set("http.route", route.to_owned());
    }
    span
}

/// Wraps `routes` in all layers. They are few, because axum clones the inner ones for every request.
pub(crate) fn wrap(
    routes: Router,
    gate: Arc<Gate>,
    http: &HttpConfig,
    browsers: Option<BrowserGuard>,
    error_formats: &'static [ErrorFormat],
) -> Router {
    let state = Guard {
        browsers,
        gate,
        max_uri_bytes: http.max_uri_bytes,
        body_timeout: http.body_timeout(),
        error_formats,
    };
    let guarded = routes.layer(middleware::from_fn_with_state(state, guard));
    // Outside the guard: a browser's preflight request carries no key.
    let guarded = match access::cors(&http.cors_origins) {
        Some(cors) => guarded.layer(cors),
        None => guarded,
    };
    guarded.layer(middleware::from_fn(observe))
}

/// Settings of the layer [`guard`].
#[derive(Debug, Clone)]
struct Guard {
    /// Refuses requests of foreign web pages. `None` if callers have keys, or if there is no listener.
    browsers: Option<BrowserGuard>,
    /// Authenticates callers and limits their rate.
    gate: Arc<Gate>,
    /// Longest path and query, in bytes.
    max_uri_bytes: usize,
    /// How long to read the body of a refused request.
    body_timeout: Duration,
    /// Paths whose errors have another service's format.
    error_formats: &'static [ErrorFormat],
}

/// The layer around the routes: rejects requests that no route may see, and answers for a handler that panics.
async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let format = guard
        .error_formats
        .iter()
        .find(|format| path.starts_with(format.path_prefix));
    let (request, unread) = UnreadBody::track(request);
    // Not in another service's format: that one would hide the status in its own.
    if let Some(browsers) = &guard.browsers
        && let Err(refusal) = browsers.check(request.method(), request.uri(), request.headers())
    {
        drop(request);
        unread.discard(guard.body_timeout);
        return ApiError::from(refusal).into_response();
    }
    let response = guarded(&guard, request, next).await;
    unread.discard(guard.body_timeout);
    match format {
        Some(format) => format.apply(response),
        None => response,
    }
}

async fn guarded(guard: &Guard, mut request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |uri| uri.as_str().len());
    if length > guard.max_uri_bytes {
        let limit = guard.max_uri_bytes;
        return ApiError::new(
            ErrorCode::UriTooLong,
            format!("the path and query have {length} bytes; {limit} are allowed"),
        )
        .into_response();
    }
    let admitted = match guard.gate.admit(&mut request) {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    // Unwind safe: the request is not used afterwards.
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    admitted.write_to(response.unwrap_or_else(|panic| panicked(&*panic)))
}

/// Adds the trace and the duration to the response: `traceparent` for programs, `server-timing` for browsers, which
/// show it and expose it to scripts.
fn write_trace(headers: &mut HeaderMap, trace: &TraceContext, took: Duration) {
    let parent = trace.parent();
    let ms = took.as_micros() as f64 / 1e3;
    let timing = format!("total;dur={ms:.1}, traceparent;desc=\"{parent}\"");
    for (name, text) in [(TRACEPARENT, parent), (SERVER_TIMING, &timing)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The outermost layer: assigns the request id and the trace, and records the request once it is answered.
async fn observe(mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let method = method_name(request.method());
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let mut span = span(method, route, trace(request.headers()).as_ref());
    let trace = span.context().clone();
    request.extensions_mut().insert(trace.clone());

    let within = tracing::info_span!("request", trace_id = trace.trace_id(), request_id = %id);
    let response = next.run(request).instrument(within).await;

    let mut response = problem::finish(response, &id, method, &path);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = began.elapsed();
    write_trace(response.headers_mut(), &trace, took);
    let caller = response.extensions_mut().remove::<Caller>();
    let key = caller
        .as_ref()
        .and_then(Caller::key_name)
        .map_or("-", Token::as_str);
    let status = response.status().as_u16();
    span.set("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.fail(response.status().as_str());
    }
    metrics::answered(route, method, status, took);
    let ms = took.as_micros() as f64 / 1e3;
    let trace_id = trace.trace_id();
    if matches!(route, "/healthz" | "/readyz" | "/metrics") {
        tracing::debug!(method, route, status, ms, request_id = %id, trace_id, key, "request");
    } else {
        tracing::info!(method, route, status, ms, request_id = %id, trace_id, key, "request");
    }
    response
}

/// Maps the method to a fixed set of names: clients must not create metric labels.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// The response to a request whose handler panicked.
fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without message");
    ApiError::internal(message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_tracestate_fields_are_joined() {
        let mut headers = HeaderMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2,c=3"));
        assert_eq!(trace(&headers).unwrap().state(), Some("a=1,b=2,c=3"));
    }

    #[test]
    fn only_a_visible_ascii_request_id_is_kept() {
        let id = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            request_id(&headers)
        };
        assert_eq!(&*id(b"order-17/3"), "order-17/3");
        for bad in [&b""[..], b"a b", b"\xc3\xa9", &[b'x'; 129]] {
            assert_eq!(id(bad).len(), 32);
        }
        assert_eq!(id(&[b'x'; 128]).len(), 128);
    }
}
