//! `POST /v1/summaries`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::Channel;
use precis_schemas::rest::{JobView, SubmitSummary};
use tokio::time::Instant;

use crate::access::Caller;
use crate::extract::JsonBody;
use crate::prefer::Preferences;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::{lookup, submit, view, wait};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Takes a text: 202 with the job, or 200 with its end when the client waits and it comes in time.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SubmitSummary>,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let preferences = Preferences::read(&headers)?;
    let patience = match preferences.wait {
        Some(seconds) => wait::bounded(seconds, state.limits())?,
        None => std::time::Duration::ZERO,
    };
    let request = submit::Request {
        channel: Channel::Api,
        body,
    };
    let submission = submit::prepare(&state, &caller, request, &trace).await?;
    // Before the publish: a fast worker may be done before its acknowledgement is here.
    let waiter = (!patience.is_zero()).then(|| state.waiters().register(&submission.job.id));
    let handle = submit::publish(&state, &submission).await?;
    let result = match waiter {
        Some(mut waiter) => waiter.new_result(&state, began + patience).await,
        None => None,
    };
    let (status, view) = match result {
        Some(result) => (StatusCode::OK, view::ended(result)),
        None => {
            let view = lookup::accepted(&state, &handle, &submission.subject).await;
            (StatusCode::ACCEPTED, view)
        }
    };
    Ok(answer(status, &view, preferences))
}

fn answer(status: StatusCode, view: &JobView, preferences: Preferences) -> Response {
    let mut response = (status, Json(view)).into_response();
    let headers = response.headers_mut();
    // A handle is plain ASCII, so that neither value can fail.
    if let Ok(location) = HeaderValue::from_str(&view.links.this) {
        headers.insert(header::LOCATION, location);
    }
    let accepted = status == StatusCode::ACCEPTED;
    if accepted {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let applied = preferences.applied(accepted);
    if let Some(applied) = applied.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    response
}
