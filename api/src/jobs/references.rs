//! `POST /v1/jobs/{id}/reference`: a summary by a human that comes after the job.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use precis_runtime::clock;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::reference::LateReference;
use precis_schemas::rest::{ReferenceAccepted, SubmitReference};
use precis_schemas::{JobHandle, Token};

use crate::access::Caller;
use crate::http::extract::JsonBody;
use crate::http::problem::ApiError;
use crate::jobs::lookup;
use crate::queue::ReadConsistency;
use crate::state::AppState;

/// Takes a reference: 202 as soon as the stream has it. The monitor scores the prediction anew.
pub(crate) async fn submit(
    State(state): State<AppState>,
    Extension(trace): Extension<TraceContext>,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<SubmitReference>,
) -> Result<(StatusCode, Json<ReferenceAccepted>), ApiError> {
    let handle: JobHandle = id
        .parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))?;
    validate(&body, state.limits().max_reference_chars)?;
    state.queue().require_durable("a late reference")?;
    let tenant = owner(&state, &caller, &handle).await?;
    let received_at = clock::now();
    let reference = LateReference {
        id: handle.id.clone(),
        tenant,
        reference: body.reference,
        received_at,
    };
    state.queue().publish_reference(&reference, &trace).await?;
    let accepted = ReferenceAccepted {
        job_id: handle.to_string(),
        reference_chars: reference.reference.chars().count() as u64,
        received_at,
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

fn validate(body: &SubmitReference, most: usize) -> Result<(), Refusal> {
    if body.reference.trim().is_empty() {
        return Err(Refusal::new(
            ErrorCode::EmptyText,
            "reference is empty or only white space",
        ));
    }
    let chars = body.reference.chars().count();
    if chars > most {
        return Err(Refusal::new(
            ErrorCode::TextTooLong,
            format!("reference has {chars} characters; {most} are allowed"),
        ));
    }
    Ok(())
}

/// On whose account the job was submitted, found in its result, in the queue, or in the analytics database.
///
/// # Errors
/// When there is no such job, none any more that could be scored, or it is somebody else's.
async fn owner(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<Token, Refusal> {
    // Somebody else's job is no job, wherever it is found.
    let mine = |tenant: Option<Token>| tenant.filter(|tenant| caller.may_see(tenant));
    let result = state.queue().result(&handle.id, ReadConsistency::Any).await?;
    if let Some(tenant) = mine(result.map(|result| result.tenant)) {
        return Ok(tenant);
    }
    match mine(standing(state, handle).await?) {
        Some(tenant) => Ok(tenant),
        None => kept(state, caller, handle).await,
    }
}

async fn standing(state: &AppState, handle: &JobHandle) -> Result<Option<Token>, Refusal> {
    let Some(sequence) = handle.sequence else {
        return Ok(None);
    };
    let standing = state.queue().queued_job(sequence).await?;
    let same = standing.filter(|standing| standing.id == handle.id);
    Ok(same.map(|standing| standing.subject.tenant))
}

async fn kept(state: &AppState, caller: &Caller, handle: &JobHandle) -> Result<Token, Refusal> {
    let kept = state.analytics().kept(&handle.id).await?;
    match kept.filter(|kept| caller.may_see(&kept.tenant)) {
        Some(kept) if kept.with_summary => Ok(kept.tenant),
        Some(_) => Err(Refusal::new(
            ErrorCode::JobGone,
            format!("the summary of job `{handle}` is no longer kept: a reference can't be compared with it"),
        )),
        None => match lookup::job(state, caller, handle).await {
            Err(refusal) => Err(refusal),
            // It has ended, or begun, between the looks.
            Ok(_) => Ok(caller.tenant().clone()),
        },
    }
}
