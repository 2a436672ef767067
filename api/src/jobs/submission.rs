//! What `POST /v1/summaries` and `POST /v1/scores` have in common: jobs that are submitted together, once for each
//! idempotency key, and perhaps waited for.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use precis_producer::Submission;
use precis_runtime::json;
use precis_schemas::error_code::Refusal;
use precis_schemas::rest::JobView;
use precis_schemas::{JobHandle, JobId};
use serde::Serialize;
use tokio::time::Instant;

use crate::access::Caller;
use crate::http::prefer::Preferences;
use crate::http::problem::ApiError;
use crate::jobs::idempotency::{self, Key, Submitted};
use crate::jobs::lookup;
use crate::state::AppState;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Longest that a client is told to stay away from a job that waits, in seconds.
const LONGEST_RETRY: f64 = 60.0;
/// Bytes of a job as an answer shows it, about.
const ABOUT: usize = 2_048;

/// A request for jobs, before its body is looked at.
pub(super) struct Call<'a> {
    state: &'a AppState,
    caller: &'a Caller,
    key: Option<Key>,
    preferences: Preferences,
    until: Instant,
}

/// The jobs of a request, as they are when it is answered.
pub(super) struct Jobs {
    /// Their batch, if they are one.
    pub(super) batch: Option<JobId>,
    /// Their handles.
    pub(super) handles: Vec<JobHandle>,
    /// As REST shows them, in the order of the request.
    pub(super) views: Vec<JobView>,
    /// Whether they are those of the first request with the same idempotency key.
    is_replayed: bool,
    preferences: Preferences,
}

impl<'a> Call<'a> {
    /// Reads the headers of a request. A client that says nothing about waiting waits for `patience`.
    ///
    /// # Errors
    /// When a header can't be read.
    pub(super) fn read(
        state: &'a AppState,
        caller: &'a Caller,
        headers: &HeaderMap,
        route: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<Self, ApiError> {
        let now = Instant::now();
        let preferences = Preferences::read(headers, state.limits().max_wait_seconds);
        let patience = match preferences.patience() {
            Some(patience) => patience,
            None if preferences.respond_async => Duration::ZERO,
            None => patience,
        };
        Ok(Self {
            state,
            caller,
            key: Key::read(headers, caller.tenant(), route, body)?,
            preferences,
            until: now + patience,
        })
    }

    /// Submits the jobs, unless another request with the same key was first, and waits for their ends as long as the
    /// client does.
    ///
    /// # Errors
    /// When a job is refused, or the queue does not take all of them.
    pub(super) async fn submit(
        self,
        prepared: impl Future<Output = Result<Vec<Submission>, ApiError>>,
    ) -> Result<Jobs, ApiError> {
        if let Some(call) = idempotency::replay(self.state, self.key.as_ref()).await? {
            return self.replayed(&call).await;
        }
        let submissions = prepared.await?;
        let group = match idempotency::submit(self.state, self.key.clone(), submissions).await? {
            Submitted::Now(group) => group,
            Submitted::Before(call) => return self.replayed(&call).await,
        };
        let (batch, handles) = (group.batch(), group.handles());
        let views = group.views(self.state, self.caller, self.until).await;
        Ok(Jobs {
            batch,
            handles,
            views,
            is_replayed: false,
            preferences: self.preferences,
        })
    }

    async fn replayed(&self, call: &idempotency::Call) -> Result<Jobs, ApiError> {
        let handles = call.handles();
        Ok(Jobs {
            batch: call.batch.clone(),
            views: look_at(self.state, self.caller, &handles, self.until).await?,
            handles,
            is_replayed: true,
            preferences: self.preferences,
        })
    }
}

/// Jobs as they are at `until`, or when they have ended.
///
/// # Errors
/// When one of them is not there any more, or the queue can't be asked.
pub(super) async fn look_at(
    state: &AppState,
    caller: &Caller,
    handles: &[JobHandle],
    until: Instant,
) -> Result<Vec<JobView>, Refusal> {
    let look = |handle| lookup::job_by(state, caller, handle, until);
    join_all(handles.iter().map(look)).await.into_iter().collect()
}

/// What goes into the answer about jobs besides its body.
pub(super) struct About {
    /// When a client should come again, in seconds: when the last of its jobs will have ended, as far as that is known.
    retry_after: u64,
    is_replayed: bool,
    preferences: Preferences,
}

impl Jobs {
    /// What goes into the answer besides its body.
    pub(super) fn about(&self) -> About {
        let eta = self
            .views
            .iter()
            .filter_map(|view| view.eta_seconds)
            .fold(1.0, f64::max);
        About {
            // Between 1 and 60.
            retry_after: eta.ceil().min(LONGEST_RETRY) as u64,
            is_replayed: self.is_replayed,
            preferences: self.preferences,
        }
    }
}

impl About {
    /// 200 with what has ended, or 202 with what goes on; `location` is where it is found again.
    pub(super) fn respond(&self, ended: bool, body: &impl Serialize, location: Option<&str>) -> Response {
        let status = if ended {
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        };
        let body = match json::to_bytes(body, ABOUT) {
            Ok(body) => body,
            Err(error) => return ApiError::internal(&format!("an answer: {error}")).into_response(),
        };
        let mut response = (status, [(header::CONTENT_TYPE, JSON)], body).into_response();
        let headers = response.headers_mut();
        if !ended {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
        }
        let applied = self.preferences.applied(!ended);
        if let Some(applied) = applied.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(PREFERENCE_APPLIED, applied);
        }
        // Ids and handles are plain ASCII, so that it can't fail.
        if let Some(location) = location.and_then(|path| HeaderValue::from_str(path).ok()) {
            headers.insert(header::LOCATION, location);
        }
        if self.is_replayed {
            let (name, value) = idempotency::REPLAYED;
            headers.insert(name, value);
        }
        response
    }
}
