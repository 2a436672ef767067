//! The routes of jobs, scores and models, with their documentation.

use axum::Json;
use axum::extract::State;
use precis_schemas::ErrorCode::*;
use precis_schemas::rest::{
    JobView, ModelList, ReferenceAccepted, ScoreReport, SubmitReference, SubmitScores, SubmitSummary,
    SubmittedBatch,
};
use precis_schemas::rest_bulk::{CancelledJobs, QueuedJobList};
use precis_schemas::{Lane, Task};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::gateway::state::AppState;
use crate::jobs::{events, model, queued, routes, scores, summaries};
use crate::openapi::schema::{batch_id, handle, idempotency_key, of, text};
use crate::openapi::{Operation, QUEUE_ERRORS, Route, TEXT_ERRORS, Tag};

const JOB_ID: &str = "Id of the job, as returned by its submission";

/// Returns all of them.
pub(crate) fn all() -> Vec<Route<AppState>> {
    vec![
        Route::new("/v1/summaries").post(summaries::submit, submit_summary()),
        Route::new("/v1/scores").post(scores::submit, submit_scores()),
        Route::new("/v1/scores/{id}").get(scores::show, show_scores()),
        Route::new("/v1/jobs").get(queued::list, list_jobs()),
        Route::new("/v1/jobs/cancel").post(queued::cancel, cancel_jobs()),
        Route::new("/v1/jobs/{id}")
            .get(routes::show, show_job())
            .delete(routes::cancel, cancel_job()),
        Route::new("/v1/jobs/{id}/events").get(events::stream, follow_job()),
        Route::new("/v1/jobs/{id}/reference").post(routes::submit_reference, submit_reference()),
        Route::new("/v1/models").get(
            models,
            Operation::new(
                Tag::Models,
                "listModels",
                "List the models that live workers serve",
            )
            .returns::<ModelList>(200, "The models by name; empty while no worker is alive"),
        ),
    ]
}

fn submit_summary() -> Operation {
    let operation = Operation::new(Tag::Jobs, "submitSummary", "Submit one text or several")
        .describe(
            "Returns the job at once, or the batch for several `texts`. A client that waits gets the final state if all \
             jobs end in time.",
        )
        .body::<SubmitSummary>()
        .returns_as(200, "All jobs ended while the client waited", "application/json", job_or_batch)
        .returns_as(202, "The jobs are queued", "application/json", job_or_batch)
        .errors(&[CallbackRefused, NeedsQueue]);
    submission(operation)
}

fn submit_scores() -> Operation {
    let operation = Operation::new(
        Tag::Jobs,
        "submitScores",
        "Score summaries, or texts that Precis summarizes first",
    )
    .describe("Waits for the scores unless the client prefers otherwise.")
    .body::<SubmitScores>()
    .returns::<ScoreReport>(200, "All pairs are scored")
    .returns::<ScoreReport>(202, "The pairs are queued; the scores so far");
    submission(operation)
}

fn show_scores() -> Operation {
    Operation::new(Tag::Jobs, "showScores", "Get the scores of a batch of pairs")
        .path("id", "Id of the batch, as returned by its submission", batch_id)
        .query(
            "wait",
            "Wait up to this many seconds until all pairs are scored",
            seconds,
        )
        .returns::<ScoreReport>(200, "The scores so far")
        .errors(&[InvalidParameter, JobNotFound, JobGone, QueueUnavailable])
}

fn list_jobs() -> Operation {
    let operation = Operation::new(
        Tag::Jobs,
        "listJobs",
        "List the jobs that wait or run, the oldest first",
    )
    .describe("Jobs that have ended are in `GET /v1/predictions`. A tenant's key sees its own jobs.");
    queued_jobs(operation)
        .returns::<QueuedJobList>(200, "A page of jobs")
        .with_headers(200, &["cache-control"])
}

fn cancel_jobs() -> Operation {
    let operation = Operation::new(
        Tag::Jobs,
        "cancelJobs",
        "Cancel the jobs that wait or run and match",
    )
    .describe(
        "Cancels a page. To go on, repeat the request with the response's `next` as `after`. Idempotent.",
    );
    queued_jobs(operation).returns::<CancelledJobs>(200, "The jobs that are cancelled")
}

/// Adds the parameters of the jobs in the queue.
fn queued_jobs(operation: Operation) -> Operation {
    operation
        .query("after", "`next` of the page before", integer)
        .query("limit", "Maximum number of jobs, 1 to 500; default 50", integer)
        .query("model", "Served model to select", text)
        .query("lane", "Priority to select", lane)
        .query("task", "Task to select", task)
        .query("tenant", "Tenant to select", text)
        .query("q", "Phrase in the text, a note or the id, in any case", text)
        .errors(&[InvalidParameter, QueueUnavailable, NeedsQueue])
}

fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0})
}

fn lane(generator: &mut SchemaGenerator) -> Schema {
    of::<Lane>(generator)
}

fn task(generator: &mut SchemaGenerator) -> Schema {
    of::<Task>(generator)
}

fn show_job() -> Operation {
    Operation::new(Tag::Jobs, "showJob", "Get a job")
        .path("id", JOB_ID, handle)
        .query("wait", "Wait up to this many seconds until the job ends", seconds)
        .header("If-None-Match", "Entity tags that the client already has", text)
        .returns::<JobView>(200, "The job's current state")
        .with_headers(200, &["etag", "cache-control"])
        .returns_empty(304, "The state matches one of the tags")
        .with_headers(304, &["etag", "cache-control"])
        .errors(&[InvalidParameter, JobNotFound, JobGone, QueueUnavailable])
}

fn cancel_job() -> Operation {
    Operation::new(Tag::Jobs, "cancelJob", "Cancel a job that is queued or running")
        .describe("Cancelling a cancelled job returns the same response.")
        .path("id", JOB_ID, handle)
        .returns::<JobView>(200, "The job is cancelled")
        .errors(&[
            InvalidRequest,
            JobNotFound,
            JobGone,
            JobFinished,
            QueueUnavailable,
        ])
}

fn follow_job() -> Operation {
    Operation::new(Tag::Jobs, "followJob", "Stream the events of a job")
        .describe(
            "Server-Sent Events: `state`, `text` and finally the job's outcome. See docs/reference/rest.md.",
        )
        .path("id", JOB_ID, handle)
        .header(
            "Last-Event-ID",
            "Id of the last event that the client received",
            text,
        )
        .returns_as(200, "The events", "text/event-stream", untyped)
        .with_headers(200, &["cache-control"])
        .returns_empty(204, "The client already has the last event")
        .errors(&[InvalidRequest, JobNotFound, JobGone, QueueUnavailable])
}

fn submit_reference() -> Operation {
    Operation::new(
        Tag::Jobs,
        "submitReference",
        "Submit a reference for an earlier job",
    )
    .describe("The monitor scores the job's summary against it.")
    .path("id", JOB_ID, handle)
    .body::<SubmitReference>()
    .returns::<ReferenceAccepted>(202, "The reference is stored")
    .errors(&[EmptyText, TextTooLong, JobNotFound, JobGone])
    .errors(&[QueueUnavailable, NeedsQueue, AnalyticsUnavailable])
}

/// `GET /v1/models`.
async fn models(State(state): State<AppState>) -> Json<ModelList> {
    Json(model::list(
        &state.workers().live(),
        &state.api().default_model,
        state.limits(),
    ))
}

/// Adds the headers and errors of every submission to the queue.
fn submission(operation: Operation) -> Operation {
    const HEADERS: [&str; 3] = ["location", "preference-applied", "idempotent-replayed"];
    operation
        .header(
            "Prefer",
            "`wait=N` waits up to N seconds until the jobs end; `respond-async` returns at once",
            preference,
        )
        .header(
            "Idempotency-Key",
            "The same key and body return the same jobs for 24 hours",
            idempotency_key,
        )
        .errors(&TEXT_ERRORS)
        .errors(&QUEUE_ERRORS)
        .errors(&[IdempotencyKeyReused, IdempotencyKeyInUse])
        .with_headers(200, &HEADERS)
        .with_headers(202, &HEADERS)
        .with_headers(202, &["retry-after"])
}

/// One text makes a job, several make a batch.
fn job_or_batch(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [of::<JobView>(generator), of::<SubmittedBatch>(generator)]})
}

/// Has no type: some tools check the schema against the whole stream, others against each event.
fn untyped(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"description": "Events, each with `id`, `event` and JSON `data`"})
}

fn seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": 120})
}

fn preference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "examples": ["wait=30"], "pattern": "^(wait=(\\d|[1-9]\\d|1[01]\\d|120)|respond-async)$"})
}
