//! The routes of named queries, with their documentation.

use precis_schemas::ErrorCode::*;
use precis_schemas::queries::ParameterKind;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::analytics::predictions::LIST;
use crate::analytics::{predictions, routes};
use crate::gateway::state::AppState;
use crate::openapi::schema::{SchemaFn, handle, name, object, text};
use crate::openapi::{Operation, Route, Tag};

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
    let operation = LIST.parameters.iter().fold(operation, |operation, parameter| {
        let schema: SchemaFn = match parameter.kind {
            ParameterKind::Number => number,
            ParameterKind::Integer { .. } => integer,
            ParameterKind::Time | ParameterKind::Text | ParameterKind::Choice(_) => text,
        };
        operation.query(&parameter.name, &parameter.description, schema)
    });
    operation
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

fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number"})
}

fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer"})
}

fn format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["json", "csv", "arrow"]})
}
