//! The routes of the console's files, with their documentation.

use precis_schemas::ErrorCode::RouteNotFound;

use super::routes;
use crate::gateway::state::AppState;
use crate::openapi::schema::{name, text};
use crate::openapi::{Operation, Route, Tag};

/// Returns all of them. `GET /` itself is a route of the gateway.
pub(crate) fn all() -> Vec<Route<AppState>> {
    vec![
        Route::new("/console/{file}").get(
            routes::file,
            operation("consoleFile", "Get a file of the console").path("file", "The file", name),
        ),
        Route::new("/console/{folder}/{file}").get(
            routes::file_in_folder,
            operation(
                "consoleFileInFolder",
                "Get a script, a library or the samples of the console",
            )
            .path("folder", "The folder", name)
            .path("file", "The file", name)
            .returns_as(200, "The samples", "application/x-ndjson", text)
            .returns_as(200, "The samples", "text/csv", text),
        ),
    ]
}

fn operation(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Service, id, summary)
        .without_key()
        .header("If-None-Match", "Entity tags that the client already has", text)
        .returns_as(200, "The script", "text/javascript", text)
        .returns_as(200, "The stylesheet", "text/css", text)
        .returns_empty(304, "The file has not changed")
        .errors(&[RouteNotFound])
}
