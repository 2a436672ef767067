//! The routes of named queries, with their documentation.

use precis_schemas::ErrorCode::*;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::analytics::routes;
use crate::gateway::state::AppState;
use crate::openapi::schema::{name, object, text};
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
    ]
}

fn format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["json", "csv", "arrow"]})
}
