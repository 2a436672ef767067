//! `GET /v1/jobs` and `POST /v1/jobs/cancel`: the jobs in the queue, by filter.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::rest::Status;
use precis_schemas::rest_bulk::{CancelledJobs, QueuedJobList, QueuedJobView};
use precis_schemas::{JobHandle, Lane, Task, Token};
use serde::Deserialize;

use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::extract::Query;
use crate::http::problem::ApiError;
use crate::jobs::submit;
use crate::queue::{JobFilter, ListedJob, TerminationOutcome};

/// Jobs that one request reads at most.
const MAX_READ: usize = 5_000;
/// Jobs to read at once.
const STEP: usize = 250;
/// Largest and default page.
const MAX_LIMIT: usize = 500;
const DEFAULT_LIMIT: usize = 50;
/// Characters of a text in a list.
const TEXT_CHARS: usize = 300;

/// Query of both routes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueuedQuery {
    after: Option<u64>,
    limit: Option<usize>,
    model: Option<String>,
    lane: Option<Lane>,
    task: Option<Task>,
    tenant: Option<String>,
    q: Option<String>,
}

fn token(what: &'static str, text: Option<&str>) -> Result<Option<Token>, Refusal> {
    let given = text.filter(|text| !text.is_empty());
    let token = given.map(|text| Token::new(what, text)).transpose();
    token.map_err(|error| Refusal::new(ErrorCode::InvalidParameter, error.to_string()))
}

impl QueuedQuery {
    fn filter(&self, caller: &Caller) -> Result<JobFilter, Refusal> {
        let mut tenant = token("tenant", self.tenant.as_deref())?;
        if !caller.sees_all() {
            if tenant.as_ref().is_some_and(|tenant| tenant != caller.tenant()) {
                return Err(Refusal::new(
                    ErrorCode::Forbidden,
                    "this key does not belong to that tenant",
                ));
            }
            tenant = Some(caller.tenant().clone());
        }
        Ok(JobFilter {
            model: token("model", self.model.as_deref())?,
            lane: self.lane,
            task: self.task,
            tenant,
        })
    }

    fn limit(&self) -> Result<usize, Refusal> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(limit);
        }
        Err(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("limit must be 1 to {MAX_LIMIT}, and is {limit}"),
        ))
    }

    fn matches(&self, listed: &ListedJob) -> bool {
        let Some(phrase) = self.q.as_ref().filter(|phrase| !phrase.is_empty()) else {
            return true;
        };
        let phrase = phrase.to_lowercase();
        let job = &listed.job;
        let notes = job.metadata.values().map(String::as_str);
        [listed.text.as_str(), job.id.as_str()]
            .into_iter()
            .chain(notes)
            .any(|text| text.to_lowercase().contains(&phrase))
    }
}

/// Reads the jobs that match, the oldest first. Returns the sequence after which the next page begins, too.
async fn read(
    state: &AppState,
    caller: &Caller,
    query: &QueuedQuery,
) -> Result<(Vec<ListedJob>, Option<u64>), ApiError> {
    state.queue().require_durable("the list of queued jobs")?;
    let (filter, limit) = (query.filter(caller)?, query.limit()?);
    let (mut found, mut after) = (Vec::new(), query.after.unwrap_or(0));
    let mut read = 0;
    while read < MAX_READ {
        let page = state.queue().list_jobs(&filter, after, STEP).await?;
        let is_last = page.len() < STEP;
        read += page.len();
        for listed in page {
            if found.len() == limit {
                return Ok((found, Some(after)));
            }
            after = listed.sequence;
            if query.matches(&listed) {
                found.push(listed);
            }
        }
        if is_last {
            return Ok((found, None));
        }
    }
    Ok((found, Some(after)))
}

fn handle(listed: &ListedJob) -> JobHandle {
    JobHandle {
        id: listed.job.id.clone(),
        sequence: Some(listed.sequence),
    }
}

/// Lists the jobs that wait or run.
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<QueuedQuery>,
) -> Result<Response, ApiError> {
    let (found, next) = read(&state, &caller, &query).await?;
    let view = |listed: ListedJob| {
        let handle = handle(&listed);
        let ListedJob { job, text, .. } = listed;
        QueuedJobView {
            status: match state.running().get(&handle) {
                Some(_) => Status::Running,
                None => Status::Queued,
            },
            id: handle.to_string(),
            model: job.subject.model,
            lane: job.subject.lane,
            task: job.subject.task,
            tenant: job.subject.tenant,
            submitted_at: job.submitted_at,
            deadline: job.deadline,
            text: text.chars().take(TEXT_CHARS).collect(),
            metadata: job.metadata,
        }
    };
    let jobs = found.into_iter().map(view).collect();
    Ok(([no_cache()], Json(QueuedJobList { jobs, next })).into_response())
}

/// Cancels a page of the jobs that wait or run.
pub(super) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<QueuedQuery>,
) -> Result<Json<CancelledJobs>, ApiError> {
    let (found, next) = read(&state, &caller, &query).await?;
    let mut report = CancelledJobs {
        next,
        ..CancelledJobs::default()
    };
    for listed in found {
        let handle = handle(&listed);
        match submit::cancel(&state, &handle).await {
            Ok(Some(TerminationOutcome::Terminated(_))) => report.cancelled.push(handle.to_string()),
            Ok(_) => report.ended += 1,
            Err(refusal) if report.cancelled.is_empty() => return Err(refusal.into()),
            Err(refusal) => {
                report.next = Some(listed.sequence - 1);
                report.stopped = Some(refusal);
                break;
            }
        }
    }
    tracing::info!(cancelled = report.cancelled.len(), "cancelled jobs by filter");
    Ok(Json(report))
}
