//! The OpenAPI document and the page that shows it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::openapi::{self, Route};
use crate::router::routes;

fn all_routes() -> Vec<Route> {
    routes(&Readiness::default())
}

#[test]
fn the_reference_shows_a_call_of_every_operation() {
    let page = include_str!("../../../docs/reference/rest.md");
    let missing: Vec<String> = all_routes()
        .iter()
        .flat_map(Route::operations)
        .map(|operation| format!("| `{operation}` | "))
        .filter(|row| !page.contains(row))
        .collect();
    assert!(
        missing.is_empty(),
        "missing in docs/reference/rest.md, which tests/openapi/examples.py writes: {missing:?}"
    );
}

#[tokio::test]
async fn the_committed_document_is_the_served_one() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
    let text = openapi::text(&all_routes());
    if std::env::var_os("PRECIS_UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "schemas/openapi.json is out of date: run this test with PRECIS_UPDATE=1"
    );
    let served = api().raw(get("/openapi.json")).await;
    assert_eq!(served.body, serde_json::from_str::<Value>(&text).unwrap());
}

#[test]
fn references_resolve_and_operation_ids_are_unique() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    found.push(reference.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = openapi::document(&all_routes());
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let paths = document["paths"].as_object().unwrap().values();
    let ids: Vec<&str> = paths
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
}
