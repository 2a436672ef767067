//! `GET /v1/jobs/{id}/events`.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use precis_schemas::error_code::ErrorCode;
use tokio::sync::mpsc;

use crate::access::Caller;
use crate::http::layers;
use crate::http::problem::ApiError;
use crate::jobs::lookup;
use crate::jobs::routes::handle_of;
use crate::state::AppState;
use crate::watch::events::{Events, LastId};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that collect answers before they send them on are asked not to.
const NO_BUFFERING: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);
/// How often a comment is sent when nothing happens, so that nobody on the way takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Events that may wait for a slow client.
const ROOM: usize = 4;

/// Streams what happens to a job; 204 to a client that has seen its end.
pub(crate) async fn stream(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let handle = handle_of(&id)?;
    let seen = match headers.get(&LAST_EVENT_ID).map(HeaderValue::to_str) {
        None => None,
        // A client that has seen nothing yet sends an empty one.
        Some(Ok("")) => None,
        Some(text) => match text.ok().and_then(|text| text.parse().ok()) {
            Some(LastId::At(seen)) => Some(seen),
            Some(LastId::End) => return Ok(StatusCode::NO_CONTENT.into_response()),
            None => {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "last-event-id is none of this stream's ids",
                ));
            }
        },
    };
    let (out, events) = mpsc::channel::<Event>(ROOM);
    let waiter = state.waiters().register(&handle.id);
    let source = Events::new(state.clone(), caller.clone(), handle.clone(), seen, out);
    let first = lookup::look(&state, &caller, &handle).await?;
    tokio::spawn(source.run(waiter, first));
    let events = stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    for (name, value) in [layers::no_cache(), NO_BUFFERING] {
        headers.insert(name, value);
    }
    Ok(response)
}
