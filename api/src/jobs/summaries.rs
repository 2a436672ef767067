//! `POST /v1/summaries`.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::rest::{SubmitSummary, SubmittedBatch};
use precis_schemas::{Channel, JobId};

use super::submission::{Call, Jobs};
use crate::access::Caller;
use crate::http::extract::JsonBody;
use crate::http::problem::ApiError;
use crate::jobs::group;
use crate::jobs::submit;
use crate::state::AppState;

/// Takes one text or several: 202 with the jobs, or 200 with their ends when the client waits and they come in time.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SubmitSummary>,
) -> Result<Response, ApiError> {
    let call = Call::read(&state, &caller, &headers, "/v1/summaries", &body, Duration::ZERO)?;
    let jobs = call.submit(prepare(&state, &caller, body, &trace)).await?;
    Ok(answer(jobs))
}

/// The jobs that a body asks for, checked.
async fn prepare(
    state: &AppState,
    caller: &Caller,
    mut body: SubmitSummary,
    trace: &TraceContext,
) -> Result<Vec<Submission>, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let (texts, references) = match (&body.text, &body.texts, &body.reference, &body.references) {
        (None, None, ..) => return invalid("missing field `text`; send `text`, or several `texts`"),
        (Some(_), Some(_), ..) => return invalid("text and texts exclude each other; send one of them"),
        (Some(_), None, _, Some(_)) => {
            return invalid("references belong to texts; send `reference` with a text");
        }
        (None, Some(_), Some(_), _) => {
            return invalid("reference belongs to a text; send `references` with texts");
        }
        (Some(_), None, _, None) => {
            let request = submit::Request::of(Channel::Api, body);
            return Ok(vec![submit::prepare(state, caller, request, trace).await?]);
        }
        // Taken out: what is left goes for all of them, and is copied for each.
        (None, Some(_), None, _) => (body.texts.take().unwrap_or_default(), body.references.take()),
    };
    group::check_count("texts", texts.len(), state.limits().max_batch_texts)?;
    let references = references.unwrap_or_else(|| vec![None; texts.len()]);
    if references.len() != texts.len() {
        let (given, wanted) = (references.len(), texts.len());
        return invalid(&format!(
            "there are {given} references for {wanted} texts; send null where there is none"
        ));
    }
    let places = BatchRef::all(&JobId::generate(), texts.len() as u64);
    let requests = places
        .zip(texts)
        .zip(references)
        .map(|((place, text), reference)| submit::Request {
            id: place.job_id(),
            batch: Some(place),
            ..submit::Request::of(
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

fn answer(jobs: Jobs) -> Response {
    let about = jobs.about();
    let ended = jobs.views.iter().all(|view| view.status.is_final());
    let Jobs { batch, mut views, .. } = jobs;
    match (batch, views.pop()) {
        (None, Some(view)) => about.respond(ended, &view, Some(&view.links.this)),
        (batch, last) => {
            views.extend(last);
            let body = SubmittedBatch {
                id: batch.unwrap_or_else(JobId::generate),
                jobs: views,
            };
            about.respond(ended, &body, None)
        }
    }
}
