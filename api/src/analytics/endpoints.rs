//! The routes of named queries, with their documentation.

use precis_schemas::ErrorCode::*;
use precis_schemas::queries::{NamedQuery, ParameterKind};
use precis_schemas::rest_bulk::{PredictionCount, ResubmittedJobs};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::analytics::predictions::LIST;
use crate::analytics::{bulk, predictions, routes};
use crate::gateway::state::AppState;
use crate::openapi::schema::{SchemaFn, handle, name, object, text};
use crate::openapi::{Operation, QUEUE_ERRORS, Route, Tag};

/// Returns all of them.
pub(crate) fn all() -> Vec<Route<AppState>> {
    vec![
        Route::new("/v1/analytics").get(
            routes::list,
            Operation::new(
                Tag::Analytics,
                "listQueries",
                "List the named queries and their parameters",
            )
            .returns_as(200, "The queries", "application/json", object),
        ),
        Route::new("/v1/analytics/{query}").get(
            routes::answer,
            Operation::new(Tag::Analytics, "answerQuery", "Run a named query")
                .describe(
                    "The query string also takes the query's own parameters; `GET /v1/analytics` lists them.",
                )
                .path("query", "Name of the query", name)
                .query(
                    "format",
                    "`json`, `csv` or `arrow`; the default comes from `Accept`",
                    format,
                )
                .returns_as(200, "The rows", "application/json", object)
                .returns_as(200, "The rows", "text/csv", text)
                .returns_as(200, "The rows", "application/vnd.apache.arrow.stream", text)
                .with_headers(200, &["cache-control"])
                .errors(&[InvalidParameter, QueryNotFound, AnalyticsUnavailable]),
        ),
        Route::new("/v1/predictions").get(predictions::list, list()),
        Route::new("/v1/predictions/count").get(
            bulk::count,
            filtered(
                Operation::new(Tag::Analytics, "countPredictions", "Count the predictions that match"),
                &bulk::COUNT,
            )
            .describe("The parameters are the filters of the list.")
            .returns::<PredictionCount>(200, "The count")
            .with_headers(200, &["cache-control"])
            .errors(&[InvalidParameter, AnalyticsUnavailable]),
        ),
        Route::new("/v1/predictions/resubmit").post(
            bulk::resubmit,
            filtered(
                Operation::new(Tag::Jobs, "resubmitPredictions", "Run the predictions that match again"),
                &LIST,
            )
            .describe(
                "The parameters are those of the list, with at most 200 predictions a request. Each text that is stored \
                 becomes a new job with the settings of the first and the priority `bulk`; its metadata names the first job \
                 as `resubmission_of`. To go on, repeat the request with the `run` and the `after` of the response, and a \
                 fixed `to`. Requests of one run submit no prediction twice.",
            )
            .query("run", "Name of the run, at most 40 letters, digits, `_` and `-`; a new one by default", text)
            .returns::<ResubmittedJobs>(202, "The new jobs")
            .errors(&[InvalidParameter, AnalyticsUnavailable, NeedsQueue])
            .errors(&QUEUE_ERRORS),
        ),
        Route::new("/v1/predictions/{id}").get(
            predictions::show,
            Operation::new(Tag::Analytics, "showPrediction", "Get a prediction")
                .describe("The row of a job that has ended, with its texts if they are stored.")
                .path("id", "Id or handle of the job", handle)
                .returns_as(200, "The row", "application/json", object)
                .with_headers(200, &["cache-control"])
                .errors(&[InvalidRequest, JobNotFound, AnalyticsUnavailable]),
        ),
    ]
}

/// The list takes the parameters of its query.
fn list() -> Operation {
    let operation = Operation::new(
        Tag::Analytics,
        "listPredictions",
        "Search and filter predictions, the latest first",
    )
    .describe(
        "Pages: pass the `cursor` of the last row as `after`. JSON is ClickHouse's: `meta`, `data`, `rows`.",
    );
    filtered(operation, &LIST)
        .query(
            "format",
            "`json`, `csv` or `arrow`; the default comes from `Accept`",
            format,
        )
        .returns_as(200, "The rows", "application/json", object)
        .returns_as(200, "The rows", "text/csv", text)
        .returns_as(200, "The rows", "application/vnd.apache.arrow.stream", text)
        .with_headers(200, &["cache-control"])
        .errors(&[InvalidParameter, AnalyticsUnavailable])
}

/// Adds the parameters of a query.
fn filtered(operation: Operation, query: &'static NamedQuery) -> Operation {
    query.parameters.iter().fold(operation, |operation, parameter| {
        let schema: SchemaFn = match parameter.kind {
            ParameterKind::Number => number,
            ParameterKind::Integer { .. } => integer,
            ParameterKind::Time | ParameterKind::Text | ParameterKind::Choice(_) => text,
        };
        operation.query(&parameter.name, &parameter.description, schema)
    })
}

fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number"})
}

fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer"})
}

fn format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["json", "csv", "arrow"]})
}
