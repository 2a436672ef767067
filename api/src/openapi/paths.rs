//! Every path and method, with what it takes and answers.

use precis_schemas::ErrorCode::{self, *};
use precis_schemas::rest::{JobView, ReferenceAccepted, SubmitReference, SubmitSummary};
use schemars::{Schema, SchemaGenerator, json_schema};

use super::operation::{Operation, text};
use super::taken_over;
use crate::model::ModelList;

/// Groups of operations.
pub(super) const TAGS: [(&str, &str); 5] = [
    ("Jobs", "Texts in, summaries out, through the queue."),
    ("Models", "What is being served."),
    ("Analytics", "What the monitor has measured."),
    (
        "Taken over",
        "Routes of the services that Precis takes the place of: their clients change nothing but the address.",
    ),
    ("Service", "How it is, what errors mean, and this document."),
];

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
    json_schema!({"type": "string", "examples": ["wait=30"], "pattern": "^wait=(\\d|[1-9]\\d|1[01]\\d|120)$"})
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
    all.extend(taken_over::all());
    all.extend(service());
    all
}

fn jobs() -> Vec<Entry> {
    vec![
        (
            "/v1/summaries",
            "post",
            Operation::new("Jobs", "submitSummary", "Submit a text")
                .describe("Answers at once with the job, or with its end where the client waits for it and it comes in time.")
                .header("Prefer", "`wait=N`: answer when the job has ended, or after N seconds", preference)
                .body::<SubmitSummary>()
                .answers::<JobView>(200, "The job has ended while the client waited")
                .with(200, "location")
                .with(200, "preference-applied")
                .answers::<JobView>(202, "The queue has taken the job")
                .with(202, "location")
                .with(202, "retry-after")
                .with(202, "preference-applied")
                .refuses(&TEXTS)
                .refuses(&QUEUE),
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
            "/v1/jobs/{id}/reference",
            "post",
            Operation::new("Jobs", "submitReference", "A human's summary that arrives later")
                .describe("The monitor scores the job's summary against it.")
                .path("id", "The job's id, as its submission gave it", handle)
                .body::<SubmitReference>()
                .answers::<ReferenceAccepted>(202, "The stream has taken it")
                .refuses(&[EmptyText, TextTooLong, JobNotFound, JobGone, QueueUnavailable, AnalyticsUnavailable]),
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
            open("metrics", "Metrics in Prometheus' text format").answers_as(
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
