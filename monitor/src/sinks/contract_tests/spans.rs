//! Traces for Arize; traces and annotations for Phoenix.

use std::collections::BTreeMap;

use base64::Engine as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use precis_runtime::config::PhoenixConfig as PhoenixSettings;
use precis_schemas::batch::BatchRef;
use prost::Message as _;
use serde_json::{Value, json};

use super::harness::{assert_headers, assert_within, captured_item, only, read, send, settings};
use crate::sinks::arize::traces::Traces;
use crate::sinks::forward::http::client;
use crate::sinks::forward::item::{Item, ItemKind, ItemScores};
use crate::sinks::otlp::export;
use crate::sinks::phoenix::Phoenix;

fn attributes(all: &[KeyValue]) -> BTreeMap<String, Any> {
    let value = |one: &KeyValue| one.value.clone().unwrap().value.unwrap();
    all.iter().map(|one| (one.key.clone(), value(one))).collect()
}

fn decode(body: &[u8]) -> (BTreeMap<String, Any>, Vec<Span>) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let [resource] = &request.resource_spans[..] else {
        panic!("one resource")
    };
    let spans = resource.scope_spans.iter().flat_map(|scope| scope.spans.clone());
    let attributes = attributes(&resource.resource.as_ref().unwrap().attributes);
    (attributes, spans.collect())
}

/// Asserts that every captured attribute is sent with the same type, and with the same value unless it is in `other`.
fn assert_attributes(captured: &BTreeMap<String, Any>, sent: &BTreeMap<String, Any>, other: &[&str]) {
    for (key, value) in captured {
        let found = sent.get(key).unwrap_or_else(|| panic!("{key} is sent"));
        if !other.contains(&key.as_str()) {
            assert_eq!(value, found, "{key}");
        }
        assert_eq!(
            std::mem::discriminant(value),
            std::mem::discriminant(found),
            "{key}"
        );
    }
}

#[tokio::test]
async fn traces_for_arize_match_the_captured_headers_and_resource() {
    let capture = &read("arize/otlp_http_request.json")["request"];
    let make = |base: &str| {
        let client = client(std::time::Duration::from_secs(9)).unwrap();
        Traces::new(client, &settings(base), "DUMMY_API_KEY", "DUMMY_SPACE_ID")
    };
    let item = captured_item();
    let late = Item {
        kind: ItemKind::LateScores,
        ..captured_item()
    };
    let recorded = send(make, &[&item, &late], 1).await;
    assert_headers(capture, &recorded[0]);
    let body = base64::engine::general_purpose::STANDARD
        .decode(capture["body_base64"].as_str().unwrap())
        .unwrap();
    let (captured, captured_spans) = decode(&body);
    let (resource, spans) = decode(&recorded[0].body);
    let about_the_client = [
        "telemetry.sdk.language",
        "telemetry.sdk.name",
        "telemetry.sdk.version",
        "service.instance.id",
        "service.name",
    ];
    assert_attributes(&captured, &resource, &about_the_client);
    let (captured, llm) = (&captured_spans[0], &spans[0]);
    assert_eq!((&captured.name, captured.kind), (&llm.name, llm.kind));
    assert_eq!(captured.flags, llm.flags);
    let sent = attributes(&llm.attributes);
    assert_attributes(
        &attributes(&captured.attributes),
        &sent,
        &["input.value", "output.value"],
    );
    // Scores are evaluations of the span. Late scores are a span below it.
    assert_eq!(sent["eval.score_bleu.score"], Any::DoubleValue(27.31));
    let late = spans.last().unwrap();
    let kinds: Vec<_> = spans
        .iter()
        .map(|span| attributes(&span.attributes)["openinference.span.kind"].clone())
        .collect();
    assert_eq!(
        kinds,
        ["LLM", "EMBEDDING", "EVALUATOR"].map(|kind| Any::StringValue(kind.into()))
    );
    assert_eq!(
        (&late.parent_span_id, &late.trace_id),
        (&llm.span_id, &llm.trace_id)
    );
    assert_eq!(
        attributes(&late.attributes)["eval.score_rougeL.score"],
        Any::DoubleValue(0.5)
    );
}

#[tokio::test]
async fn spans_and_annotations_for_phoenix_match_the_capture() {
    let make = |base: &str| {
        let client = client(std::time::Duration::from_secs(9)).unwrap();
        let settings = PhoenixSettings {
            project: "summarizer".into(),
            texts: Some(true),
            ..PhoenixSettings::default()
        };
        Phoenix::new(client, &settings, base)
    };
    let mut item = captured_item();
    item.result.batch = Some(BatchRef {
        id: "batch-1".parse().unwrap(),
        index: 0,
        size: None,
    });
    item.result.sizes.text_tokens = 14;
    item.result.sizes.summary_tokens = 6;
    item.scores = item.scores.map(|scores| ItemScores {
        rouge1: 0.5714,
        rouge2: 0.3333,
        ..scores
    });
    let recorded = send(make, &[&item], 2).await;
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/contracts/phoenix/otlp_export_request.pb"
    );
    let (captured, captured_spans) = decode(&std::fs::read(path).unwrap());
    let (resource, spans) = decode(&recorded[0].body);
    assert_eq!(recorded[0].line, "POST /v1/traces HTTP/1.1");
    assert_eq!(recorded[0].headers["content-type"], "application/x-protobuf");
    assert_attributes(&captured, &resource, &["service.name"]);
    assert_eq!(captured_spans.len(), spans.len());
    for (captured, sent) in captured_spans.iter().zip(&spans) {
        assert_eq!((&captured.name, captured.kind), (&sent.name, sent.kind));
        assert_eq!(captured.status, sent.status);
        let wanted = attributes(&captured.attributes);
        let ours = [
            "metadata",
            "llm.invocation_parameters",
            "llm.input_messages.0.message.content",
            "embedding.model_name",
        ];
        assert_attributes(&wanted, &attributes(&sent.attributes), &ours);
    }
    let (llm, embedding) = (&spans[0], &spans[1]);
    assert_eq!(embedding.parent_span_id, llm.span_id);
    assert!(embedding.start_time_unix_nano >= llm.start_time_unix_nano);
    assert!(embedding.end_time_unix_nano <= llm.end_time_unix_nano);
    assert_metadata(&attributes(&llm.attributes)["metadata"]);

    let capture = read("phoenix/span_annotations_request.json");
    assert_headers(&capture, &recorded[1]);
    let body: Value = serde_json::from_slice(&recorded[1].body).unwrap();
    let annotations = body["data"].as_array().unwrap();
    let span_id = export::hex(&llm.span_id);
    for (captured, sent) in capture["body_json"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .zip(annotations)
    {
        let mut wanted = only(captured, &["name", "annotator_kind", "identifier"]);
        wanted["result"] = json!({"score": captured["result"]["score"]});
        assert_within(&wanted, sent, "annotation");
        assert_eq!(sent["span_id"], span_id.as_str());
    }
    assert_within(
        &capture["body_json"]["data"][0]["metadata"],
        &annotations[0]["metadata"],
        "metadata",
    );
    assert_eq!(annotations.len(), 4);
}

fn assert_metadata(metadata: &Any) {
    let Any::StringValue(metadata) = metadata else {
        panic!("metadata is a text")
    };
    let metadata: Value = serde_json::from_str(metadata).unwrap();
    let wanted = json!({"prediction_id": "3f2a9c1e", "model_version": "1.0", "model_source": "gpu", "latency_ms": 812.0});
    assert_within(&wanted, &metadata, "metadata");
}
