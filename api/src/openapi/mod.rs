//! The OpenAPI 3.1 document, generated from the routes and from the types that requests and responses consist of.
//!
//! | file | content |
//! | --- | --- |
//! | `route.rs` | a path with its handlers and their documentation |
//! | `operation.rs`, `render.rs` | the documentation of one method, and its form in the document |
//! | `schema.rs` | schemas that several areas share |
//! | `ui.rs` | Swagger UI |
//!
//! Each area lists its routes in `endpoints.rs`; `gateway/router.rs` joins them. A copy of the document is committed as
//! `schemas/openapi.json`, and a test keeps it current.

mod operation;
mod render;
mod route;
pub(crate) mod schema;
pub(crate) mod ui;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub(crate) use self::operation::{Operation, QUEUE_ERRORS, TEXT_ERRORS, Tag};
pub(crate) use self::route::Route;

/// Returns the document of these routes as JSON text.
pub(crate) fn text<S>(routes: &[Route<S>]) -> String {
    // Maps with string keys always serialize.
    serde_json::to_string_pretty(&document(routes)).unwrap_or_default() + "\n"
}

/// Returns the document of these routes.
pub(crate) fn document<S>(routes: &[Route<S>]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        for (method, operation) in &route.operations {
            item[method] = render::operation(operation, &mut generator);
        }
    }
    let tags = Tag::ALL.map(|tag| json!({"name": tag.name(), "description": tag.description()}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Precis",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Text summarization as a service",
            "description": "Submit a text, then poll for its summary or wait for it in the same request. Every error is a \
                problem (RFC 9457) with a stable code, which `/errors/{code}` explains.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This server"}],
        "tags": tags,
        "security": [{"bearer": []}, {"apiKey": []}, {}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "headers": render::headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, if the deployment has keys."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same key, in another header."},
            },
        },
    })
}
