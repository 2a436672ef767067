//! Records for Arize.

use precis_runtime::config::ArizeConfig;
use serde_json::{Value, json};

use super::harness::{assert_headers, assert_within, captured_item, only, read, send, settings};
use crate::sinks::arize::records::Records;
use crate::sinks::forward::http::client;
use crate::sinks::forward::item::{Item, ItemKind, ItemScores};

fn records(base: &str) -> Records {
    let client = client(std::time::Duration::from_secs(9)).unwrap();
    Records::new(client, &settings(base), "DUMMY_API_KEY", "DUMMY_SPACE_ID")
}

const OUR_FEATURES: [&str; 2] = ["prompt", "response"];
/// Tags of the captures that Precis sends too. The others are notes of the captured script.
const OUR_TAGS: [&str; 8] = [
    "score_bleu",
    "score_rouge1",
    "score_rouge2",
    "score_rougeL",
    "model_source",
    "total_token_count",
    "prompt_token_count",
    "response_token_count",
];

/// Returns the part of a captured record that any client must send.
fn contract(capture: &Value) -> Value {
    let mut body = capture["body_json"].clone();
    let prediction = &mut body["prediction"];
    prediction["features"] = only(&prediction["features"], &OUR_FEATURES);
    prediction["tags"] = only(&prediction["tags"], &OUR_TAGS);
    body
}

/// Asserts that features and tags have the captured format, without extra fields.
fn assert_format(body: &Value) {
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(body),
        [
            "environment_params",
            "is_generative_llm_record",
            "model_id",
            "prediction",
            "prediction_id"
        ]
    );
    let prediction = &body["prediction"];
    assert_eq!(
        names(prediction),
        [
            "features",
            "llm_fields",
            "model_version",
            "prediction_label",
            "tags",
            "timestamp"
        ]
    );
    assert_eq!(names(&prediction["llm_fields"]), ["llm_model_name", "llm_params"]);
    for map in [
        &prediction["features"],
        &prediction["tags"],
        &prediction["llm_fields"]["llm_params"],
    ] {
        for (name, value) in map.as_object().unwrap() {
            let value = value.as_object().unwrap();
            let (kind, value) = value.iter().next().unwrap();
            let good = match kind.as_str() {
                "int" => value.as_str().is_some_and(|text| text.parse::<i64>().is_ok()),
                "double" => value.is_f64() || value == "Infinity",
                "string" => value.is_string(),
                "embedding" => OUR_FEATURES.contains(&name.as_str()),
                _ => false,
            };
            assert!(good, "{name}: {kind} {value}");
        }
    }
}

#[tokio::test]
async fn a_record_matches_the_capture() {
    let capture = &read("arize/stream_log_request.json")["request"];
    let recorded = send(records, &[&captured_item()], 1).await;
    assert_headers(capture, &recorded[0]);
    let body: Value = serde_json::from_slice(&recorded[0].body).unwrap();
    assert_within(&contract(capture), &body, "body");
    assert_format(&body);
}

#[tokio::test]
async fn token_counts_latency_and_parameters_match_the_capture() {
    let capture = &read("arize/stream_log_request_run_metadata.json")["request"];
    let mut item = captured_item();
    item.result.id = "3f2a9c1f".parse().unwrap();
    item.result.text = "The cat sat on the mat.".into();
    item.result.summary = Some("Cat sat.".into());
    item.scores = item.scores.map(|scores| ItemScores { bleu: 0.0, ..scores });
    let recorded = send(records, &[&item], 1).await;
    let body: Value = serde_json::from_slice(&recorded[0].body).unwrap();
    let mut contract = contract(capture);
    // T5 has no prompt template.
    let fields = contract["prediction"]["llm_fields"].as_object_mut().unwrap();
    fields.retain(|name, _| !name.starts_with("prompt_template"));
    contract["prediction"]["tags"]["response_latency_ms"] = json!({"int": "812"});
    assert_within(&contract, &body, "body");
}

#[tokio::test]
async fn a_text_without_a_vector_is_plain_text() {
    let capture = &read("arize/stream_log_request_text_only.json")["request"];
    let mut item = captured_item();
    item.result.id = "3f2a9c20".parse().unwrap();
    item.result.text = "Long article é ✅".into();
    item.result.summary = Some("Short.".into());
    item.result.embeddings = None;
    item.scores = item.scores.map(|scores| ItemScores {
        bleu: 100.0,
        ..scores
    });
    let recorded = send(records, &[&item], 1).await;
    let body: Value = serde_json::from_slice(&recorded[0].body).unwrap();
    let contract = contract(capture);
    assert_within(&contract, &body, "body");
    // An empty vector is left out.
    for name in OUR_FEATURES {
        assert_eq!(
            body["prediction"]["features"][name],
            contract["prediction"]["features"][name]
        );
    }
}

#[tokio::test]
async fn late_scores_are_actuals_of_the_same_prediction() {
    let capture = &read("arize/stream_log_request_latent_tags.json")["request"];
    let item = Item {
        kind: ItemKind::LateScores,
        ..captured_item()
    };
    let recorded = send(records, &[&item], 1).await;
    assert_headers(capture, &recorded[0]);
    let body: Value = serde_json::from_slice(&recorded[0].body).unwrap();
    let mut contract = capture["body_json"].clone();
    contract["actual"]["tags"]["score_rouge1"] = json!({"double": 0.571_428_571_428_571_4});
    assert_within(&contract, &body, "body");
    assert_eq!(body.get("prediction"), None);
    assert_eq!(body["actual"]["tags"].as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn records_without_texts_contain_only_vectors() {
    let make = |base: &str| {
        let settings = ArizeConfig {
            texts: Some(false),
            ..settings(base)
        };
        let client = client(std::time::Duration::from_secs(9)).unwrap();
        Records::new(client, &settings, "key", "space")
    };
    let recorded = send(make, &[&captured_item()], 1).await;
    let text = String::from_utf8(recorded[0].body.clone()).unwrap();
    assert!(!text.contains("mat") && text.contains("vector"), "{text}");
}
