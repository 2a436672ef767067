//! The OpenAPI document and the page that shows it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use axum::http::HeaderValue;
use flate2::read::GzDecoder;

use super::*;
use crate::gateway::router::routes;
use crate::openapi::{self, Route, ui};

fn all_routes() -> Vec<Route<AppState>> {
    routes(&Readiness::default())
}

#[test]
fn the_reference_shows_a_call_of_every_operation() {
    let page = include_str!("../../../../docs/reference/rest.md");
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

#[tokio::test]
async fn the_page_loads_only_files_that_the_gateway_serves() {
    let api = api();
    let page = api.raw(get("/docs")).await;
    assert_eq!((page.status, page.body.as_str()), (200, Some(ui::PAGE)));
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'self';")
    );
    let mut loaded = 0;
    for part in ui::PAGE.split([' ', '<', '>']) {
        let Some(url) = ["href=\"", "src=\""]
            .iter()
            .find_map(|name| part.strip_prefix(name))
        else {
            continue;
        };
        let url = url.trim_end_matches('"');
        if url == "data:," {
            continue;
        }
        assert!(url.starts_with('/'), "{url}");
        assert_eq!(api.raw(get(url)).await.status, 200, "{url}");
        loaded += 1;
    }
    assert_eq!(loaded, 3);
    assert_eq!(api.raw(get("/docs/other.js")).await.status, 404);
}

#[tokio::test]
async fn files_of_the_page_come_compressed_or_plain() {
    let api = api();
    for (name, content) in [
        ("swagger-ui-bundle.js", "SwaggerUIBundle"),
        ("swagger-ui.css", ".swagger-ui"),
    ] {
        let path = format!("/docs/{name}");
        let plain = api.raw(get(&path)).await;
        assert!(plain.body.as_str().unwrap().contains(content), "{name}");
        assert_eq!(plain.header("content-encoding"), "");

        let mut request = get(&path);
        let accepted = HeaderValue::from_static("br, gzip;q=0.8");
        request.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
        let response = api.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let compressed = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let mut unpacked = String::new();
        // The decoder verifies checksum and length.
        GzDecoder::new(&*compressed)
            .read_to_string(&mut unpacked)
            .unwrap();
        assert_eq!(Some(unpacked.as_str()), plain.body.as_str());
    }
}
