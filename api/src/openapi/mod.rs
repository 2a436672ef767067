//! The interface as an OpenAPI 3.1 document, made from the types that requests are read with and answers written from.
//!
//! | file | what |
//! | --- | --- |
//! | `paths.rs`, `batches.rs`, `taken_over.rs` | every path and method, with what it takes and answers |
//! | `operation.rs` | one of them, and how the document writes it |
//! | `ui.rs` | Swagger UI |
//!
//! The document stands in `schemas/openapi.json` too; a test compares them, and another one the document with the router.

mod batches;
mod operation;
mod paths;
mod taken_over;
mod ui;

use std::sync::LazyLock;

use axum::response::IntoResponse;
use http::header;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub(crate) use self::ui::{asset, page};

static DOCUMENT: LazyLock<String> = LazyLock::new(text);

/// `GET /openapi.json`.
pub(crate) async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// The document as it is served, and as it stands in `schemas/`.
fn text() -> String {
    // Maps and strings can always be written.
    serde_json::to_string_pretty(&document()).unwrap_or_default() + "\n"
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for (path, method, operation) in paths::all() {
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[method] = operation.render(&mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Precis",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Summaries as a service",
            "description": "Submit a text and poll for its summary, or wait for it in the same request. Every refusal is a \
                problem (RFC 9457) with a stable code, and `/errors/{code}` explains it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This server"}],
        "tags": paths::TAGS
            .iter()
            .map(|(name, description)| json!({"name": name, "description": description}))
            .collect::<Vec<_>>(),
        "security": [{"bearer": []}, {"apiKey": []}, {}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "headers": operation::headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A key, where the deployment has keys."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same key."},
            },
        },
    })
}

#[cfg(test)]
mod tests;
