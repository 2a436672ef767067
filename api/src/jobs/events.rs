//! `GET /v1/jobs/{id}/events`: what happens to a job, as Server-Sent Events.
//!
//! | event | id | data |
//! | --- | --- | --- |
//! | `state` | `<attempt>.0`, or `0.0` while queued | the job (`rest::JobView`), `queued` or `running` |
//! | `text` | `<attempt>.<part>` | the summary so far (`rest::TextSoFar`) |
//! | `result` | `end` | the job with its outcome |
//!
//! The ids follow from the workers' progress events, so a client can resume with `Last-Event-ID` at any gateway. Each
//! event repeats what the earlier ones said, so skipped events are no loss.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use precis_runtime::clock;
use precis_schemas::JobHandle;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::event::Progress;
use precis_schemas::rest::{JobView, Status, TextSoFar};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::problem::ApiError;
use crate::jobs::lookup::{self, JobSnapshot};
use crate::jobs::routes::parse_handle;
use crate::jobs::view;
use crate::watch::progress::ProgressWatcher;
use crate::watch::wait::Waiter;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks proxies not to buffer the stream.
const NO_BUFFERING: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);
/// How often an idle stream sends a comment, so that proxies keep the connection open.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Events to buffer for a slow client.
const BUFFER_SIZE: usize = 4;
/// How often to refresh the position of a queued job.
const POSITION_INTERVAL: Duration = Duration::from_secs(2);
/// Position refreshes per full lookup.
const LOOKUP_EVERY: u64 = 15;
/// Longest time that a stream stays open.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// A position in a job's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct EventPosition {
    attempt: u64,
    part: u64,
}

/// The id of the last event that a client has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastEventId {
    /// A `state` or `text` event.
    Position(EventPosition),
    /// The `result` event.
    End,
}

impl FromStr for LastEventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "end" {
            return Ok(Self::End);
        }
        let (attempt, part) = text.split_once('.').ok_or(())?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| ());
        Ok(Self::Position(EventPosition {
            attempt: number(attempt)?,
            part: number(part)?,
        }))
    }
}

/// Streams a job's events. Responds 204 to a client that has received the `result` event.
pub(crate) async fn stream(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let handle = parse_handle(&id)?;
    let last_sent = match headers.get(&LAST_EVENT_ID).map(HeaderValue::to_str) {
        // A client that has received no event yet may send an empty id.
        None | Some(Ok("")) => None,
        Some(text) => match text.ok().and_then(|text| text.parse().ok()) {
            Some(LastEventId::Position(position)) => Some(position),
            Some(LastEventId::End) => return Ok(StatusCode::NO_CONTENT.into_response()),
            None => {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "last-event-id is not an id of this stream",
                ));
            }
        },
    };
    let (sender, events) = mpsc::channel::<Event>(BUFFER_SIZE);
    // Register both watchers before the lookup, so that nothing is missed in between.
    let waiter = state.waiters().register(&handle.id);
    let event_stream = EventStream {
        progress: state.running().watch(&handle.id),
        state: state.clone(),
        caller: caller.clone(),
        handle: handle.clone(),
        last_sent,
        last_view: None,
        sender,
    };
    let first = lookup::snapshot(&state, &caller, &handle).await?;
    tokio::spawn(event_stream.run(waiter, first));
    let events = stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_INTERVAL).text("still here");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    for (name, value) in [no_cache(), NO_BUFFERING] {
        headers.insert(name, value);
    }
    Ok(response)
}

/// The events of one job for one client.
struct EventStream {
    state: AppState,
    caller: Caller,
    handle: JobHandle,
    progress: ProgressWatcher,
    /// Position of the last event that was sent.
    last_sent: Option<EventPosition>,
    /// The job as of the last check.
    last_view: Option<JobView>,
    sender: mpsc::Sender<Event>,
}

impl EventStream {
    /// Sends events until the job ends, the client disconnects, or the process stops.
    async fn run(mut self, mut waiter: Waiter, first: JobSnapshot) {
        let state = self.state.clone();
        lookup::restrict(&mut waiter, &self.caller, &self.handle);
        let result = waiter.result(state.queue(), state.stop(), Instant::now() + MAX_DURATION);
        tokio::pin!(result);
        let mut tick = tokio::time::interval(POSITION_INTERVAL);
        let mut ticks = 0;
        let mut job = first;
        loop {
            if job.view.status.is_final() {
                self.send("result", "end".to_owned(), &job.view).await;
                return;
            }
            if !self.send_changes(&job.view).await {
                return;
            }
            tokio::select! {
                result = &mut result => match result {
                    Some(result) => job = JobSnapshot::ended(result),
                    None => return,
                },
                () = self.progress.changed() => {}
                () = self.sender.closed() => return,
                _ = tick.tick() => {
                    ticks += 1;
                    match self.refresh(&job, ticks % LOOKUP_EVERY == 0).await {
                        Some(refreshed) => job = refreshed,
                        // The job is gone. A client that reconnects gets the error.
                        None => return,
                    }
                }
            }
            if !job.view.status.is_final()
                && let Some(progress) = state.running().get(&self.handle)
            {
                job.view = JobView {
                    submitted_at: job.view.submitted_at,
                    ..view::running(&self.handle, &progress)
                };
            }
        }
    }

    /// Returns the job as it is now, or `None` if it is gone. Reads only the cached position unless `full` is set or
    /// the job has expired.
    async fn refresh(&self, last: &JobSnapshot, full: bool) -> Option<JobSnapshot> {
        let is_expired = last
            .deadline
            .is_some_and(|deadline| lookup::expires_at(deadline) < clock::now());
        if full || (is_expired && last.view.status == Status::Queued) {
            return match lookup::snapshot(&self.state, &self.caller, &self.handle).await {
                Ok(snapshot) => Some(snapshot),
                Err(refusal) if refusal.code.is_retryable() => Some(last.clone()),
                Err(_) => None,
            };
        }
        let mut snapshot = last.clone();
        if let (Status::Queued, Some(subject), Some(sequence)) =
            (last.view.status, &last.subject, self.handle.sequence)
        {
            snapshot.view = JobView {
                submitted_at: last.view.submitted_at,
                ..lookup::waiting(&self.state, &self.handle, sequence, subject).await
            };
        }
        Some(snapshot)
    }

    /// Sends what has changed since the last call. Returns `false` if the client has disconnected.
    async fn send_changes(&mut self, view: &JobView) -> bool {
        let progress = self.state.running().get(&self.handle);
        let attempt = progress.as_ref().map_or(0, |progress| progress.attempt);
        let start = EventPosition { attempt, part: 0 };
        let has_changed = self.last_view.as_ref().is_none_or(|last| {
            (last.status, last.position, last.attempt) != (view.status, view.position, view.attempt)
        });
        // After a worker is killed, a client sees the job again with the next attempt only. The position of a queued
        // job may change any number of times.
        let is_new = self
            .last_sent
            .is_none_or(|last| start > last || (start == last && attempt == 0));
        if has_changed && is_new {
            if !self.send("state", format!("{attempt}.0"), view).await {
                return false;
            }
            self.last_sent = Some(start);
        }
        self.last_view = Some(view.clone());
        match progress.as_ref().and_then(text_of) {
            Some((position, text)) if self.last_sent.is_none_or(|last| position > last) => {
                self.last_sent = Some(position);
                let id = format!("{}.{}", position.attempt, position.part);
                self.send("text", id, &text).await
            }
            _ => true,
        }
    }

    /// Sends one event. Returns `false` if the client has disconnected.
    async fn send(&self, kind: &str, id: String, data: &impl serde::Serialize) -> bool {
        match Event::default().event(kind).id(id).json_data(data) {
            Ok(event) => self.sender.send(event).await.is_ok(),
            Err(error) => {
                tracing::error!(job = %self.handle, %error, "could not serialize an event");
                false
            }
        }
    }
}

fn text_of(progress: &Progress) -> Option<(EventPosition, TextSoFar)> {
    let position = EventPosition {
        attempt: progress.attempt,
        part: progress.part?,
    };
    let text = TextSoFar {
        attempt: position.attempt,
        part: position.part,
        text: progress.text.clone()?,
    };
    Some((position, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_are_parsed_and_ordered() {
        let at = |attempt, part| Ok(LastEventId::Position(EventPosition { attempt, part }));
        assert_eq!("0.0".parse(), at(0, 0));
        assert_eq!("2.17".parse(), at(2, 17));
        assert_eq!("end".parse(), Ok(LastEventId::End));
        for bad in ["", "2", "a.b", "2.-1"] {
            assert_eq!(bad.parse::<LastEventId>(), Err(()), "{bad}");
        }
        assert!(EventPosition { attempt: 2, part: 0 } > EventPosition { attempt: 1, part: 9 });
    }
}
