//! `POST /v1/summaries`, and the steps that it shares with `POST /v1/scores`.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use precis_producer::Submission;
use precis_runtime::json;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::{JobView, SubmitSummary, SubmittedBatch};
use precis_schemas::{Channel, JobHandle, JobId};
use serde::Serialize;
use tokio::time::Instant;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::extract::JsonBody;
use crate::http::prefer::Preferences;
use crate::http::problem::ApiError;
use crate::jobs::group;
use crate::jobs::idempotency::{self, IdempotencyKey, IdempotencyRecord, Submitted};
use crate::jobs::lookup;
use crate::jobs::submit::{self, JobRequest};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Longest `Retry-After` for a queued job, in seconds.
const MAX_RETRY_AFTER: f64 = 60.0;
/// Expected size of a job in a response, in bytes.
const JOB_SIZE_HINT: usize = 2_048;

/// `POST /v1/summaries`: submits one text or several. Responds 202 with the jobs, or 200 if the client waits and all of
/// them end in time.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SubmitSummary>,
) -> Result<Response, ApiError> {
    let call = SubmitCall::read(&state, &caller, &headers, "/v1/summaries", &body, Duration::ZERO)?;
    let jobs = call.submit(prepare(&state, &caller, body, &trace)).await?;
    Ok(respond(jobs))
}

/// Turns a body into validated submissions.
async fn prepare(
    state: &AppState,
    caller: &Caller,
    mut body: SubmitSummary,
    trace: &TraceContext,
) -> Result<Vec<Submission>, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let (texts, references) = match (&body.text, &body.texts, &body.reference, &body.references) {
        (None, None, ..) => return invalid("missing field `text`; send `text`, or several `texts`"),
        (Some(_), Some(_), ..) => return invalid("send either text or texts, not both"),
        (Some(_), None, _, Some(_)) => {
            return invalid("references belong to texts; send `reference` with a text");
        }
        (None, Some(_), Some(_), _) => {
            return invalid("reference belongs to a text; send `references` with texts");
        }
        (Some(_), None, _, None) => {
            let request = JobRequest::of(Channel::Api, body);
            return Ok(vec![submit::prepare(state, caller, request, trace).await?]);
        }
        // Take the lists out of the body: the rest is copied for each job.
        (None, Some(_), None, _) => (body.texts.take().unwrap_or_default(), body.references.take()),
    };
    group::check_count("texts", texts.len(), state.limits().max_batch_texts)?;
    let references = references.unwrap_or_else(|| vec![None; texts.len()]);
    if references.len() != texts.len() {
        let (given, expected) = (references.len(), texts.len());
        return invalid(&format!(
            "there are {given} references for {expected} texts; send null for a text without a reference"
        ));
    }
    let batch = BatchRef::all(&JobId::generate(), texts.len() as u64);
    let requests = batch
        .zip(texts)
        .zip(references)
        .map(|((position, text), reference)| JobRequest {
            id: position.job_id(),
            batch: Some(position),
            ..JobRequest::of(
                Channel::Api,
                SubmitSummary {
                    text: Some(text),
                    reference,
                    ..body.clone()
                },
            )
        });
    group::prepare(state, caller, "texts", requests, trace).await
}

fn respond(jobs: SubmittedJobs) -> Response {
    let response = jobs.response();
    let all_ended = jobs.views.iter().all(|view| view.status.is_final());
    let SubmittedJobs { batch, mut views, .. } = jobs;
    match (batch, views.pop()) {
        (None, Some(view)) => response.build(all_ended, &view, Some(&view.links.this)),
        (batch, last) => {
            views.extend(last);
            let body = SubmittedBatch {
                id: batch.unwrap_or_else(JobId::generate),
                jobs: views,
            };
            response.build(all_ended, &body, None)
        }
    }
}

/// A request that submits jobs: its idempotency key, and how long it waits.
pub(super) struct SubmitCall<'a> {
    state: &'a AppState,
    caller: &'a Caller,
    key: Option<IdempotencyKey>,
    preferences: Preferences,
    until: Instant,
}

/// The jobs of a request at the time of its response.
pub(super) struct SubmittedJobs {
    /// The batch, if the request has one.
    pub(super) batch: Option<JobId>,
    /// The handles, in the order of the request.
    pub(super) handles: Vec<JobHandle>,
    /// The jobs, in the order of the request.
    pub(super) views: Vec<JobView>,
    is_replayed: bool,
    preferences: Preferences,
}

impl<'a> SubmitCall<'a> {
    /// Reads the headers of a request. Without a preference of the client it waits for `default_wait`.
    ///
    /// # Errors
    /// If the idempotency key is malformed.
    pub(super) fn read(
        state: &'a AppState,
        caller: &'a Caller,
        headers: &HeaderMap,
        route: &str,
        body: &impl Serialize,
        default_wait: Duration,
    ) -> Result<Self, ApiError> {
        let now = Instant::now();
        let preferences = Preferences::read(headers, state.limits().max_wait_seconds);
        let wait = match preferences.patience() {
            Some(wait) => wait,
            None if preferences.respond_async => Duration::ZERO,
            None => default_wait,
        };
        Ok(Self {
            state,
            caller,
            key: IdempotencyKey::read(headers, caller.tenant(), route, body)?,
            preferences,
            until: now + wait,
        })
    }

    /// Submits the jobs, or finds those of an earlier request with the same key, and waits for them.
    ///
    /// # Errors
    /// If a job is invalid, or the queue refuses one.
    pub(super) async fn submit(
        self,
        prepare: impl Future<Output = Result<Vec<Submission>, ApiError>>,
    ) -> Result<SubmittedJobs, ApiError> {
        if let Some(record) = idempotency::replay(self.state, self.key.as_ref()).await? {
            return self.replayed(record).await;
        }
        let submissions = prepare.await?;
        let group = match idempotency::submit(self.state, self.key.clone(), submissions).await? {
            Submitted::New(group) => group,
            Submitted::Replayed(record) => return self.replayed(record).await,
        };
        Ok(SubmittedJobs {
            batch: group.batch(),
            handles: group.handles(),
            views: group.views(self.state, self.caller, self.until).await,
            is_replayed: false,
            preferences: self.preferences,
        })
    }

    async fn replayed(&self, record: IdempotencyRecord) -> Result<SubmittedJobs, ApiError> {
        Ok(SubmittedJobs {
            views: views(self.state, self.caller, &record.jobs, self.until).await?,
            batch: record.batch,
            handles: record.jobs,
            is_replayed: true,
            preferences: self.preferences,
        })
    }
}

/// Returns jobs once they have ended, or as they are at `until`.
///
/// # Errors
/// If a job is gone, or the queue can't be reached.
pub(super) async fn views(
    state: &AppState,
    caller: &Caller,
    handles: &[JobHandle],
    until: Instant,
) -> Result<Vec<JobView>, Refusal> {
    let views = handles
        .iter()
        .map(|handle| lookup::wait_for_end(state, caller, handle, until));
    join_all(views).await.into_iter().collect()
}

/// The parts of a response that don't depend on its body.
pub(super) struct SubmitResponse {
    /// Seconds until the last job ends, as far as that is known.
    retry_after: u64,
    is_replayed: bool,
    preferences: Preferences,
}

impl SubmittedJobs {
    /// The parts of the response that don't depend on its body.
    pub(super) fn response(&self) -> SubmitResponse {
        let etas = self.views.iter().filter_map(|view| view.eta_seconds);
        let last_eta = etas.fold(1.0, f64::max);
        SubmitResponse {
            // 1 to 60, so the cast loses nothing.
            retry_after: last_eta.ceil().min(MAX_RETRY_AFTER) as u64,
            is_replayed: self.is_replayed,
            preferences: self.preferences,
        }
    }
}

impl SubmitResponse {
    /// Builds the response: 200 if all jobs have ended, else 202. `location` is the path to poll.
    pub(super) fn build(&self, all_ended: bool, body: &impl Serialize, location: Option<&str>) -> Response {
        let status = if all_ended {
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        };
        let body = match json::to_bytes(body, JOB_SIZE_HINT) {
            Ok(body) => body,
            Err(error) => return ApiError::internal(&format!("a response: {error}")).into_response(),
        };
        let mut response = (status, [(header::CONTENT_TYPE, JSON)], body).into_response();
        let headers = response.headers_mut();
        if !all_ended {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
        }
        let applied = self.preferences.applied(!all_ended);
        if let Some(applied) = applied.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(PREFERENCE_APPLIED, applied);
        }
        // Ids and handles are ASCII, so this never fails.
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
