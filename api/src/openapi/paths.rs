//! Every path and method, with what it takes and answers.

use precis_schemas::ErrorCode::{self, *};
use precis_schemas::rest::{
    JobView, ModelList, ReferenceAccepted, ScoreReport, SubmitReference, SubmitScores, SubmitSummary,
    SubmittedBatch,
};
use schemars::{Schema, SchemaGenerator, json_schema};

use super::operation::{Operation, of, text};
use super::{batches, taken_over};

/// Groups of operations.
pub(super) const TAGS: [(&str, &str); 6] = [
    ("Jobs", "Texts in, summaries out, through the queue."),
    (
        "Batches",
        "Many texts in one upload, many results in one download.",
    ),
    ("Models", "What is being served."),
    ("Analytics", "What the monitor has measured."),
    (
        "Taken over",
        "Routes of the services that Precis takes the place of: their clients change nothing but the address.",
    ),
    ("Service", "How it is, what errors mean, and this document."),
];

/// Events, without a type: some tools hold the schema against the text as a whole, others against each event in it.
fn events(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"description": "Events, each with `id`, `event` and `data`, which is JSON"})
}

/// A path, a method, and what is to be said of them.
pub(super) type Entry = (&'static str, &'static str, Operation);

/// The queue may refuse a job.
pub(super) const QUEUE: [ErrorCode; 3] = [QueueFull, QueueUnavailable, QuotaExceeded];
/// What the contents of a text may be refused for.
pub(super) const TEXTS: [ErrorCode; 4] = [EmptyText, TextTooLong, InvalidParameter, UnknownModel];

fn seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": 120})
}

fn preference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "examples": ["wait=30"], "pattern": "^(wait=(\\d|[1-9]\\d|1[01]\\d|120)|respond-async)$"})
}

/// An `Idempotency-Key`, as `idempotency/key.rs` reads it.
pub(super) fn idempotency_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7E]+$"})
}

/// One text is a job, several are a batch.
fn job_or_batch(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [of::<JobView>(generator), of::<SubmittedBatch>(generator)]})
}

pub(super) fn batch_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
}

fn handle(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}(\\.[1-9][0-9]{0,15})?$"})
}

pub(super) fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$"})
}

fn format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["json", "csv", "arrow"]})
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

/// All of them.
pub(super) fn all() -> Vec<Entry> {
    let mut all = jobs();
    all.extend(batches::all());
    all.extend(taken_over::all());
    all.extend(service());
    all
}

/// What all submissions to the queue have in common.
fn submission(operation: Operation) -> Operation {
    let mut operation = operation
        .header(
            "Prefer",
            "`wait=N`: answer when the jobs have ended, or after N seconds; `respond-async`: answer at once",
            preference,
        )
        .header(
            "Idempotency-Key",
            "The same key and body mean the same jobs for 24 hours",
            idempotency_key,
        )
        .refuses(&TEXTS)
        .refuses(&QUEUE)
        .refuses(&[IdempotencyKeyReused, IdempotencyKeyInUse]);
    for status in [200, 202] {
        operation = ["location", "preference-applied", "idempotent-replayed"]
            .into_iter()
            .fold(operation, |operation, header| operation.with(status, header));
    }
    operation.with(202, "retry-after")
}

fn jobs() -> Vec<Entry> {
    vec![
        (
            "/v1/summaries",
            "post",
            submission(
                Operation::new("Jobs", "submitSummary", "Submit a text, or several")
                .describe(
                    "Answers at once with the job (with several `texts`: with the batch), or with the end where the client \
                     waits for it and it comes in time.",
                )
                .body::<SubmitSummary>()
                .answers_as(200, "All jobs have ended while the client waited", "application/json", job_or_batch)
                .answers_as(202, "The queue has taken the jobs", "application/json", job_or_batch)
                .refuses(&[CallbackRefused, NeedsQueue]),
            ),
        ),
        (
            "/v1/scores",
            "post",
            submission(
                Operation::new("Jobs", "submitScores", "Score summaries, or texts that are summarized first")
                .describe("Waits for the scores unless the client prefers otherwise.")
                .body::<SubmitScores>()
                .answers::<ScoreReport>(200, "All pairs are scored")
                .answers::<ScoreReport>(202, "The queue has taken the pairs; what there is so far"),
            ),
        ),
        (
            "/v1/scores/{id}",
            "get",
            Operation::new("Jobs", "showScores", "The scores of a batch of pairs")
                .path("id", "The batch's id, as its submission gave it", batch_id)
                .query("wait", "Answer when all are scored, or after this many seconds", seconds)
                .answers::<ScoreReport>(200, "What there is of the scores now")
                .refuses(&[InvalidParameter, JobNotFound, JobGone, QueueUnavailable]),
        ),
        (
            "/v1/jobs/{id}",
            "get",
            Operation::new("Jobs", "showJob", "Look at a job")
                .path("id", "The job's id, as its submission gave it", handle)
                .query("wait", "Answer when the job has ended, or after this many seconds", seconds)
                .header("If-None-Match", "Tags of states that the client has", text)
                .answers::<JobView>(200, "The job as it is now")
                .with(200, "etag")
                .with(200, "cache-control")
                .answers_empty(304, "It is as it was")
                .with(304, "etag")
                .with(304, "cache-control")
                .refuses(&[InvalidParameter, JobNotFound, JobGone, QueueUnavailable]),
        ),
        (
            "/v1/jobs/{id}",
            "delete",
            Operation::new("Jobs", "cancelJob", "Cancel a job that is queued or running")
                .describe("Cancelling a cancelled job again answers the same.")
                .path("id", "The job's id, as its submission gave it", handle)
                .answers::<JobView>(200, "The job is cancelled")
                .refuses(&[InvalidRequest, JobNotFound, JobGone, JobFinished, QueueUnavailable]),
        ),
        (
            "/v1/jobs/{id}/events",
            "get",
            Operation::new("Jobs", "followJob", "What happens to a job, as it happens")
                .describe("Server-Sent Events: `state`, `text` and, at last, the end. See docs/reference/rest.md.")
                .path("id", "The job's id, as its submission gave it", handle)
                .header("Last-Event-ID", "Id of the last event that the client has seen", text)
                .answers_as(200, "The events", "text/event-stream", events)
                .with(200, "cache-control")
                .answers_empty(204, "The client has seen the end")
                .refuses(&[InvalidRequest, JobNotFound, JobGone, QueueUnavailable]),
        ),
        (
            "/v1/jobs/{id}/reference",
            "post",
            Operation::new("Jobs", "submitReference", "A human's summary that arrives later")
                .describe("The monitor scores the job's summary against it.")
                .path("id", "The job's id, as its submission gave it", handle)
                .body::<SubmitReference>()
                .answers::<ReferenceAccepted>(202, "The stream has taken it")
                .refuses(&[EmptyText, TextTooLong, JobNotFound, JobGone])
                .refuses(&[QueueUnavailable, NeedsQueue, AnalyticsUnavailable]),
        ),
        (
            "/v1/analytics",
            "get",
            Operation::new("Analytics", "listQueries", "Every named query, with what it takes")
                .answers_as(200, "The queries", "application/json", anything),
        ),
        (
            "/v1/analytics/{query}",
            "get",
            Operation::new("Analytics", "answerQuery", "The answer to a named query")
                .describe("Its own parameters, which `GET /v1/analytics` lists, are in the query too.")
                .path("query", "Name of the query", name)
                .query("format", "`json`, `csv` or `arrow`; else what `Accept` names", format)
                .answers_as(200, "The rows", "application/json", anything)
                .answers_as(200, "The rows", "text/csv", text)
                .answers_as(200, "The rows", "application/vnd.apache.arrow.stream", text)
                .with(200, "cache-control")
                .refuses(&[InvalidParameter, QueryNotFound, AnalyticsUnavailable]),
        ),
        (
            "/v1/models",
            "get",
            Operation::new("Models", "listModels", "The models that live workers serve")
                .answers::<ModelList>(200, "By name; nothing while no worker is alive"),
        ),
    ]
}

fn service() -> Vec<Entry> {
    let open = |id, line| Operation::new("Service", id, line).without_key();
    vec![
        (
            "/",
            "get",
            open("home", "Name, version and entry points").answers_as(
                200,
                "Where to go",
                "application/json",
                anything,
            ),
        ),
        (
            "/healthz",
            "get",
            open("isAlive", "Whether the process lives").answers_as(200, "It does", "text/plain", text),
        ),
        (
            "/readyz",
            "get",
            open("isReady", "Whether it can do its work")
                .answers_as(200, "It can", "text/plain", text)
                .refuses(&[QueueUnavailable]),
        ),
        (
            "/metrics",
            "get",
            Operation::new("Service", "metrics", "Metrics in Prometheus' text format").answers_as(
                200,
                "All metrics",
                "text/plain",
                text,
            ),
        ),
        (
            "/errors",
            "get",
            open("listErrors", "What all errors have in common, and a list of them").answers_as(
                200,
                "The page",
                "text/markdown",
                text,
            ),
        ),
        (
            "/errors/{code}",
            "get",
            open("explainError", "What a code means, and what to do about it")
                .path("code", "The code", name)
                .answers_as(200, "The page", "text/markdown", text)
                .refuses(&[RouteNotFound]),
        ),
        (
            "/openapi.json",
            "get",
            open("openapi", "This document").answers_as(200, "OpenAPI 3.1", "application/json", anything),
        ),
        (
            "/docs",
            "get",
            open("docs", "This document for people, in Swagger UI").answers_as(
                200,
                "The page",
                "text/html",
                text,
            ),
        ),
        (
            "/docs/{file}",
            "get",
            open("docsFile", "What that page consists of")
                .path("file", "The file", name)
                .answers_as(200, "The script", "text/javascript", text)
                .answers_as(200, "The file", "text/css", text)
                .refuses(&[RouteNotFound]),
        ),
    ]
}
