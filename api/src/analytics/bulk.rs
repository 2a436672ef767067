//! `GET /v1/predictions/count` and `POST /v1/predictions/resubmit`: predictions by filter.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::StreamExt as _;
use http::StatusCode;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::queries::{self, NamedQuery};
use precis_schemas::rest::SubmitSummary;
use precis_schemas::rest_bulk::{PredictionCount, ResubmittedJob, ResubmittedJobs, SkippedPrediction};
use precis_schemas::{Channel, JobId, Lane, Token};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::predictions::LIST;
use super::{Format, routes};
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::extract::Query;
use crate::http::problem::ApiError;
use crate::jobs::submit::{self, JobRequest};

/// The query behind the count.
pub(super) static COUNT: LazyLock<NamedQuery> = LazyLock::new(queries::prediction_count);

/// Predictions that one request resubmits at most.
const MAX_LIMIT: u32 = 200;
/// Texts to read concurrently.
const READS: usize = 8;
/// Longest name of a run. An id of a job adds a hash to it.
const MAX_RUN_CHARS: usize = 40;
/// Key of the metadata that names the first job.
const RESUBMITTED: &str = "resubmission_of";

/// Rows in ClickHouse's format `JSON`.
#[derive(Deserialize)]
struct Rows<T> {
    data: Vec<T>,
}

/// Runs a query and reads its rows.
async fn rows<T: DeserializeOwned>(
    state: &AppState,
    query: &NamedQuery,
    values: &[(String, String)],
) -> Result<Vec<T>, Refusal> {
    let body = state.analytics().run(query, values, Format::Json).await?;
    let rows: Rows<T> = serde_json::from_slice(&body).map_err(|error| {
        tracing::error!(%error, query = query.name, "rows are unreadable");
        Refusal::new(
            ErrorCode::Internal,
            "the analytics database answered with unreadable rows",
        )
    })?;
    Ok(rows.data)
}

/// Counts the predictions that match.
pub(super) async fn count(
    State(state): State<AppState>,
    caller: Caller,
    Query(given): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let values = routes::parameters(&caller, &COUNT, given)?;
    let found: Vec<PredictionCount> = rows(&state, &COUNT, &values).await?;
    let count = found.first().map_or(0, |row| row.count);
    Ok(([no_cache()], Json(PredictionCount { count })).into_response())
}

/// A prediction in a page.
#[derive(Deserialize)]
struct Listed {
    cursor: String,
    /// Handle of its job.
    id: String,
    job_id: String,
}

/// What is needed to run a prediction again.
#[derive(Deserialize)]
struct Whole {
    task: String,
    text_policy: String,
    text: String,
    reference: String,
    served_as: String,
    params: String,
    metadata: BTreeMap<String, String>,
}

fn take(given: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let at = given.iter().position(|(known, _)| known == name)?;
    Some(given.remove(at).1)
}

/// Returns the name of the run: the given one, or a new one.
fn run_of(given: &mut Vec<(String, String)>) -> Result<Token, Refusal> {
    let Some(text) = take(given, "run") else {
        return Ok(Token::sanitized(JobId::generate().as_str()));
    };
    let invalid = |problem: String| Refusal::new(ErrorCode::InvalidParameter, problem);
    if text.len() > MAX_RUN_CHARS {
        return Err(invalid(format!("run has more than {MAX_RUN_CHARS} characters")));
    }
    Token::new("run", &text).map_err(|error| invalid(error.to_string()))
}

/// Returns the id of the job that runs the prediction of a job again: the same for every request of a run.
fn new_id(run: &Token, job_id: &str) -> Result<JobId, Refusal> {
    let hash = Sha256::digest(job_id.as_bytes());
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{run}-{hash}")
        .parse()
        .map_err(|error| Refusal::new(ErrorCode::InvalidParameter, format!("run: {error}")))
}

impl Whole {
    /// Returns the request that runs the prediction again.
    fn request(
        self,
        job_id: &str,
        run: &Token,
        caller: &Caller,
        max_entries: usize,
    ) -> Result<JobRequest, Refusal> {
        let cannot = |problem: &str| Refusal::new(ErrorCode::InvalidRequest, problem);
        if self.task != "summarize" {
            return Err(cannot("the job only scored a summary"));
        }
        if self.text_policy != "full" || self.text.is_empty() {
            return Err(cannot("its text is not stored"));
        }
        let mut metadata = self.metadata;
        if metadata.len() < max_entries || metadata.contains_key(RESUBMITTED) {
            metadata.insert(RESUBMITTED.to_owned(), job_id.to_owned());
        }
        let body = SubmitSummary {
            text: Some(self.text),
            reference: Some(self.reference).filter(|reference| !reference.is_empty()),
            params: serde_json::from_str(&self.params)
                .map_err(|_| cannot("its parameters are unreadable"))?,
            model: Some(self.served_as).filter(|model| !model.is_empty()),
            priority: Some(caller.default_lane(Lane::Bulk)),
            metadata,
            ..SubmitSummary::default()
        };
        Ok(JobRequest {
            id: Some(new_id(run, job_id)?),
            ..JobRequest::of(Channel::Api, body)
        })
    }
}

/// Reads a prediction of the page.
async fn whole(
    state: &AppState,
    values: &[(String, String)],
    listed: &Listed,
) -> Result<Option<Whole>, Refusal> {
    let tenant = values.iter().find(|(name, _)| name == "tenant");
    let sequence = listed.id.split_once('.').map_or("", |(_, sequence)| sequence);
    let values = [
        ("id".to_owned(), listed.job_id.clone()),
        ("sequence".to_owned(), sequence.to_owned()),
        (
            "tenant".to_owned(),
            tenant.map_or_else(String::new, |(_, tenant)| tenant.clone()),
        ),
    ];
    Ok(rows(state, &queries::prediction(), &values).await?.pop())
}

/// Whether a refusal is about this prediction alone, so that the others can be resubmitted.
fn concerns_one(refusal: &Refusal) -> bool {
    matches!(refusal.code.http_status(), 400 | 422)
}

/// Runs a page of the predictions that match again, as new jobs.
pub(super) async fn resubmit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Query(mut given): Query<Vec<(String, String)>>,
) -> Result<(StatusCode, Json<ResubmittedJobs>), ApiError> {
    state.queue().require_durable("resubmitting by filter")?;
    let run = run_of(&mut given)?;
    let values = routes::parameters(&caller, &LIST, given)?;
    let limit = values.iter().find(|(name, _)| name == "limit");
    let limit: u32 = limit
        .and_then(|(_, limit)| limit.parse().ok())
        .unwrap_or(MAX_LIMIT);
    if limit > MAX_LIMIT {
        let message = format!("limit must be at most {MAX_LIMIT}, and is {limit}");
        return Err(ApiError::new(ErrorCode::InvalidParameter, message));
    }
    let page: Vec<Listed> = rows(&state, &LIST, &values).await?;
    let is_last = page.len() < limit as usize;
    let mut report = ResubmittedJobs {
        run: run.to_string(),
        ..ResubmittedJobs::default()
    };
    let reads = page.into_iter().map(|listed| {
        let (state, values) = (&state, &values);
        async move { (whole(state, values, &listed).await, listed) }
    });
    let mut reads = futures::stream::iter(reads).buffered(READS);
    while let Some((read, listed)) = reads.next().await {
        let job_id = listed.job_id;
        let submitted = async {
            let missing = || Refusal::new(ErrorCode::InvalidRequest, "it is no longer stored");
            let max_entries = state.limits().job().max_metadata_entries;
            let request = read?
                .ok_or_else(missing)?
                .request(&listed.id, &run, &caller, max_entries)?;
            let submission = submit::prepare(&state, &caller, request, &trace).await?;
            submit::publish(&state, &submission).await
        };
        match submitted.await {
            Ok(handle) => report.submitted.push(ResubmittedJob {
                job_id,
                id: handle.to_string(),
            }),
            Err(reason) if concerns_one(&reason) => report.skipped.push(SkippedPrediction { job_id, reason }),
            Err(refusal) if report.submitted.is_empty() && report.skipped.is_empty() => {
                return Err(refusal.into());
            }
            Err(refusal) => {
                report.stopped = Some(refusal);
                break;
            }
        }
        report.after = Some(listed.cursor);
    }
    if is_last && report.stopped.is_none() {
        report.after = None;
    }
    tracing::info!(
        run = report.run,
        jobs = report.submitted.len(),
        "resubmitted predictions by filter"
    );
    Ok((StatusCode::ACCEPTED, Json(report)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Whole {
        serde_json::from_value(serde_json::json!({
            "task": "summarize", "text_policy": "full", "text": "It rained.", "reference": "", "served_as": "default",
            "params": r#"{"num_beams":4,"seed":null}"#, "metadata": {"a": "b"},
        }))
        .unwrap()
    }

    #[test]
    fn a_prediction_is_run_again_with_its_settings_under_an_id_of_the_run() {
        let run = Token::sanitized("run-1");
        let caller = Caller::unrestricted();
        let request = stored().request("job-1", &run, &caller, 16).unwrap();
        assert_eq!(request.body.params.num_beams, Some(4));
        assert_eq!(request.body.priority, Some(Lane::Bulk));
        assert_eq!(
            (request.body.reference, request.body.model.as_deref()),
            (None, Some("default"))
        );
        assert_eq!(request.body.metadata[RESUBMITTED], "job-1");
        let again = stored().request("job-1", &run, &caller, 1).unwrap();
        assert_eq!(again.id, request.id);
        assert!(!again.body.metadata.contains_key(RESUBMITTED), "there is no room");
        assert_ne!(new_id(&run, "job-2").ok(), request.id);
        for without in [
            Whole {
                task: "score".into(),
                ..stored()
            },
            Whole {
                text_policy: "hash".into(),
                ..stored()
            },
            Whole {
                text: String::new(),
                ..stored()
            },
            Whole {
                params: "[".into(),
                ..stored()
            },
        ] {
            assert!(concerns_one(
                &without.request("job-1", &run, &caller, 16).unwrap_err()
            ));
        }
    }

    #[test]
    fn a_run_is_named_by_the_client_or_new() {
        let mut given = vec![
            ("q".to_owned(), "x".to_owned()),
            ("run".to_owned(), "nightly".to_owned()),
        ];
        assert_eq!(run_of(&mut given).unwrap().as_str(), "nightly");
        assert_eq!(given.len(), 1);
        assert_ne!(run_of(&mut given).unwrap(), run_of(&mut given).unwrap());
        for bad in ["a b".to_owned(), "x".repeat(41), String::new()] {
            assert!(run_of(&mut vec![("run".to_owned(), bad)]).is_err());
        }
    }
}
