//! The document is the committed one, and names what the router routes, no more and no less.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::*;

/// Where routes are written down.
const ROUTERS: [&str; 2] = [
    include_str!("../http/router.rs"),
    include_str!("../../../crates/runtime/src/admin.rs"),
];

/// Paths and methods of every `.route(…)` in a source.
fn routed(source: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for call in source.split(".route(").skip(1) {
        let mut depth = 1;
        let end = call.find(|character| {
            depth += match character {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        let call = &call[..end.expect("the call ends")];
        let mut parts = call.splitn(3, '"').skip(1);
        let path = parts.next().expect("the path is a literal");
        let rest = parts.next().expect("handlers follow it");
        for method in ["get", "post", "put", "patch", "delete"] {
            let whole = |before: char| !before.is_alphanumeric() && before != '_' && before != ':';
            let needle = format!("{method}(");
            let is_called = rest
                .match_indices(&needle)
                .any(|(at, _)| rest[..at].chars().next_back().is_some_and(whole));
            if is_called {
                found.insert((path.to_owned(), method.to_owned()));
            }
        }
    }
    found
}

#[test]
fn the_document_names_every_route_and_no_other() {
    let routed: BTreeSet<(String, String)> = ROUTERS.iter().flat_map(|source| routed(source)).collect();
    let named: BTreeSet<(String, String)> = paths::all()
        .into_iter()
        .map(|(path, method, _)| (path.to_owned(), method.to_owned()))
        .collect();
    let missing: Vec<_> = routed.difference(&named).collect();
    let surplus: Vec<_> = named.difference(&routed).collect();
    assert!(missing.is_empty(), "not in openapi/paths.rs: {missing:?}");
    assert!(surplus.is_empty(), "not in the router: {surplus:?}");
}

#[test]
fn every_operation_is_called_in_the_documentation() {
    let page = include_str!("../../../docs/reference/rest.md");
    let missing: Vec<String> = paths::all()
        .into_iter()
        .map(|(path, method, _)| format!("| `{} {path}` | ", method.to_uppercase()))
        .filter(|row| !page.contains(row))
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/reference/rest.md, which tests/openapi/examples.py writes: {missing:?}"
    );
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
    if std::env::var_os("PRECIS_UPDATE").is_some() {
        fs::write(&path, text()).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text(),
        "schemas/openapi.json is out of date: run with PRECIS_UPDATE=1"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
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
    let document = document();
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

#[test]
fn the_files_of_swagger_ui_are_those_of_its_package() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/swagger-ui");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for file in ["swagger-ui-bundle.js", "swagger-ui.css"] {
        let compressed = fs::File::open(folder.join(format!("{file}.gz"))).unwrap();
        let mut plain = Vec::new();
        GzDecoder::new(compressed).read_to_end(&mut plain).unwrap();
        let sum: String = Sha256::digest(&plain)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(readme.contains(&sum), "{file}: {sum}");
    }
}
