//! The frozen contract. The generated JSON Schema is up to date. Messages captured when version 1 was frozen can still
//! be decoded, and are still encoded the same way.

#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::path::PathBuf;

use precis_schemas::topology::{self, TopologyLimits};
use precis_schemas::{
    Channel, Job, JobResult, asyncapi, dead::DeadLetter, event::Heartbeat, event::Progress, json_schema,
};
use serde::{Serialize, de::DeserializeOwned};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn json_schema_files_match_the_types() {
    for (name, schema) in json_schema::documents() {
        let path = folder("json").join(format!("{name}.schema.json"));
        let fresh = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("PRECIS_UPDATE").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            stored,
            fresh,
            "{} is out of date: run with PRECIS_UPDATE=1",
            path.display()
        );
    }
}

#[test]
fn the_asyncapi_document_matches_the_types() {
    let path = folder("asyncapi.json");
    let fresh = serde_json::to_string_pretty(&asyncapi::document()).unwrap() + "\n";
    if std::env::var_os("PRECIS_UPDATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == fresh,
        "asyncapi.json is out of date: run with PRECIS_UPDATE=1"
    );
}

#[test]
fn the_asyncapi_document_names_every_public_stream() {
    let document = asyncapi::document();
    let channels = document["channels"].as_object().unwrap();
    let described: Vec<&str> = channels
        .values()
        .filter_map(|channel| channel["x-jetstream"]["stream"]["name"].as_str())
        .collect();
    for spec in topology::streams(&TopologyLimits::default()) {
        // JetStream itself writes advisories. The other three are internal to the gateways.
        let internal = [
            topology::ADVISORIES,
            topology::CALLS,
            topology::BATCHES,
            topology::WEBHOOKS,
        ];
        let ours = !internal.contains(&spec.name);
        assert_eq!(described.contains(&spec.name), ours, "{}", spec.name);
    }
}

/// Decodes a frozen message and checks that encoding it again yields the same values.
fn unchanged<T: DeserializeOwned + Serialize>(file: &str) -> T {
    let text = fs::read_to_string(folder("wire/v1").join(file)).unwrap();
    let frozen: serde_json::Value = serde_json::from_str(&text).unwrap();
    let message: T = serde_json::from_value(frozen.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(
        serde_json::to_value(&message).unwrap(),
        frozen,
        "{file} is written differently now"
    );
    message
}

#[test]
fn messages_of_version_1_round_trip() {
    unchanged::<Job>("job.full.json");
    unchanged::<JobResult>("result.succeeded.json");
    unchanged::<JobResult>("result.failed.json");
    unchanged::<Progress>("progress.json");
    unchanged::<Heartbeat>("heartbeat.json");
    unchanged::<DeadLetter>("dead-letter.json");
    let least: Job = serde_json::from_slice(&fs::read(folder("wire/v1/job.least.json")).unwrap()).unwrap();
    assert_eq!(least.text, "Rain fell on the coast.");
}

#[test]
fn unknown_fields_of_results_are_ignored() {
    let mut value: serde_json::Value =
        serde_json::from_slice(&fs::read(folder("wire/v1/result.succeeded.json")).unwrap()).unwrap();
    value["added_in_2031"] = serde_json::json!({"x": 1});
    value["sizes"]["pages"] = 3.into();
    assert!(serde_json::from_value::<JobResult>(value).is_ok());
}

#[test]
fn the_guide_lists_every_channel() {
    let guide = fs::read_to_string(folder("../docs/guide/nats.md")).unwrap();
    for channel in Channel::ALL {
        assert!(guide.contains(&format!("`{channel}`")), "{channel}");
    }
}
