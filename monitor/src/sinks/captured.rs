//! Our requests against those that were captured of Arize's own clients, field by field.

use std::collections::BTreeMap;

use base64::Engine as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use precis_runtime::config::{Arize, Phoenix as PhoenixSettings, Secret, ServerUrl};
use precis_schemas::embedding::{Embeddings, Vector};
use precis_schemas::result::{ModelRef, WorkerRef};
use precis_schemas::{GenerationParams, Token};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::arize::{records::Records, traces::Traces};
use super::forward::http::client;
use super::forward::item::{Item, Kind, Scores, tests::item};
use super::forward::parcel::Target;
use super::phoenix::Phoenix;

const TEXT: &str = "The cat sat on the mat. It purred.";
const SUMMARY: &str = "Cat sat on mat.";

fn read(file: &str) -> Value {
    let path = format!("{}/contracts/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The prediction of the captures.
fn captured_item() -> Item {
    let mut item = item();
    let result = &mut item.result;
    result.id = "3f2a9c1e".parse().unwrap();
    result.text = TEXT.into();
    result.summary = Some(SUMMARY.into());
    result.reference = Some("A cat was on the mat.".into());
    result.submitted_at = "2026-11-23T07:16:28Z".parse().unwrap();
    result.started_at = Some(result.submitted_at);
    result.finished_at = "2026-11-23T07:16:28.812Z".parse().unwrap();
    result.embeddings = Some(Embeddings {
        document: Some(Vector(vec![0.125, -0.5, 0.75, 1.0])),
        summary: Some(Vector(vec![0.25, 0.5, -0.75, 0.0])),
    });
    result.model = Some(ModelRef {
        served_as: Token::sanitized("default"),
        name: "t5-small".into(),
        revision: "1.0".into(),
    });
    result.worker = Some(WorkerRef {
        id: Token::sanitized("worker-1"),
        device: "gpu".into(),
    });
    result.params = GenerationParams {
        num_beams: Some(8),
        temperature: Some(1.0),
        do_sample: Some(true),
        ..GenerationParams::default()
    };
    result.sizes.text_tokens = 100;
    result.sizes.summary_tokens = 20;
    item.scores = Some(Scores {
        bleu: 27.31,
        rouge1: 0.571_428_571_428_571_4,
        rouge2: 0.333_333_333_333_333_3,
        rouge_l: 0.5,
    });
    item
}

/// A request as it stood on the wire.
struct Wire {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Sends items to a server that takes them, and tells what it got; `requests` of them.
async fn sent<T: Target>(make: impl FnOnce(&str) -> T, items: &[&Item], requests: usize) -> Vec<Wire> {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = make(&format!("http://{}", listener.local_addr().unwrap()));
    let serving = async {
        let mut wires = vec![];
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![];
            let wire = loop {
                let mut part = vec![0; 65_536];
                let count = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..count]);
                if let Some(wire) = parse(&bytes) {
                    break wire;
                }
                assert!(count > 0, "the request is whole");
            };
            wires.push(wire);
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
        wires
    };
    let (wires, outcome) = tokio::join!(serving, target.send(items));
    outcome.unwrap();
    wires
}

fn parse(bytes: &[u8]) -> Option<Wire> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().unwrap();
    let body = bytes[end + 4..].to_vec();
    (body.len() >= length).then_some(Wire { line, headers, body })
}

fn settings(base: &str) -> Arize {
    Arize {
        api_key: Some(Secret::new("DUMMY_API_KEY")),
        space_id: Some(Secret::new("DUMMY_SPACE_ID")),
        log_endpoint: ServerUrl::new(format!("{base}/v1/log")),
        otlp_endpoint: ServerUrl::new(format!("{base}/v1/traces")),
        model_id: "summarizer".into(),
        model_version: Some("1.0".into()),
        project: "summarizer".into(),
        ..Arize::default()
    }
}

fn records(base: &str) -> Records {
    let client = client(std::time::Duration::from_secs(9)).unwrap();
    Records::new(client, &settings(base), "DUMMY_API_KEY", "DUMMY_SPACE_ID")
}

/// Every header of the capture is sent, with its value where that does not say which client it is.
fn assert_headers(capture: &Value, wire: &Wire) {
    let own = [
        "host",
        "user-agent",
        "accept-encoding",
        "accept",
        "connection",
        "content-length",
    ];
    for (name, value) in capture["headers"].as_object().unwrap() {
        let name = name.to_ascii_lowercase();
        if own.contains(&name.as_str()) {
            continue;
        }
        let sent = wire
            .headers
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is sent"));
        if !name.contains("sdk-") && !name.contains("language") {
            assert_eq!(value, sent, "{name}");
        }
    }
    assert_eq!(
        wire.line,
        format!("POST {} HTTP/1.1", capture["path"].as_str().unwrap())
    );
}

/// Everything in `captured` is in `sent`, with the same value.
fn assert_within(captured: &Value, sent: &Value, at: &str) {
    match captured {
        Value::Object(fields) => {
            for (name, value) in fields {
                let found = sent.get(name).unwrap_or_else(|| panic!("{at}.{name} is sent"));
                assert_within(value, found, &format!("{at}.{name}"));
            }
        }
        value => assert_eq!(value, sent, "{at}"),
    }
}

/// The entries of `map` by these names.
fn only(map: &Value, names: &[&str]) -> Value {
    let entries = names
        .iter()
        .filter_map(|name| Some((*name, map.get(name)?.clone())));
    Value::Object(entries.map(|(name, value)| (name.to_owned(), value)).collect())
}

const OUR_FEATURES: [&str; 2] = ["prompt", "response"];
/// What the captures have as tags and we have too; the others are notes of the script that was captured.
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

/// The part of a captured record that any client must send.
fn contract(capture: &Value) -> Value {
    let mut body = capture["body_json"].clone();
    let prediction = &mut body["prediction"];
    prediction["features"] = only(&prediction["features"], &OUR_FEATURES);
    prediction["tags"] = only(&prediction["tags"], &OUR_TAGS);
    body
}

/// Features and tags have the forms that the captures have, and nothing stands where the captures have nothing.
fn assert_form(body: &Value) {
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
async fn a_record_is_the_captured_one() {
    let capture = &read("arize/stream_log_request.json")["request"];
    let wires = sent(records, &[&captured_item()], 1).await;
    assert_headers(capture, &wires[0]);
    let body: Value = serde_json::from_slice(&wires[0].body).unwrap();
    assert_within(&contract(capture), &body, "body");
    assert_form(&body);
}

#[tokio::test]
async fn token_counts_latency_and_parameters_are_where_arize_looks_for_them() {
    let capture = &read("arize/stream_log_request_run_metadata.json")["request"];
    let mut item = captured_item();
    item.result.id = "3f2a9c1f".parse().unwrap();
    item.result.text = "The cat sat on the mat.".into();
    item.result.summary = Some("Cat sat.".into());
    item.scores = item.scores.map(|scores| Scores { bleu: 0.0, ..scores });
    let wires = sent(records, &[&item], 1).await;
    let body: Value = serde_json::from_slice(&wires[0].body).unwrap();
    let mut contract = contract(capture);
    // A prompt template is nothing that T5 has.
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
    item.scores = item.scores.map(|scores| Scores {
        bleu: 100.0,
        ..scores
    });
    let wires = sent(records, &[&item], 1).await;
    let body: Value = serde_json::from_slice(&wires[0].body).unwrap();
    let contract = contract(capture);
    assert_within(&contract, &body, "body");
    // Nothing else stands beside it: an empty vector is left out.
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
        kind: Kind::LateScores,
        ..captured_item()
    };
    let wires = sent(records, &[&item], 1).await;
    assert_headers(capture, &wires[0]);
    let body: Value = serde_json::from_slice(&wires[0].body).unwrap();
    let mut contract = capture["body_json"].clone();
    contract["actual"]["tags"]["score_rouge1"] = json!({"double": 0.571_428_571_428_571_4});
    assert_within(&contract, &body, "body");
    assert_eq!(body.get("prediction"), None);
    assert_eq!(body["actual"]["tags"].as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn texts_stay_here_where_that_is_configured() {
    let make = |base: &str| {
        let settings = Arize {
            texts: false,
            ..settings(base)
        };
        let client = client(std::time::Duration::from_secs(9)).unwrap();
        Records::new(client, &settings, "key", "space")
    };
    let wires = sent(make, &[&captured_item()], 1).await;
    let text = String::from_utf8(wires[0].body.clone()).unwrap();
    assert!(!text.contains("mat") && text.contains("vector"), "{text}");
}

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

/// Every attribute of `captured` is in `sent`, of the same kind, and of the same value unless it is in `other`.
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
async fn traces_for_arize_have_the_captured_headers_and_resource() {
    let capture = &read("arize/otlp_http_request.json")["request"];
    let make = |base: &str| {
        let client = client(std::time::Duration::from_secs(9)).unwrap();
        Traces::new(client, &settings(base), "DUMMY_API_KEY", "DUMMY_SPACE_ID")
    };
    let item = captured_item();
    let late = Item {
        kind: Kind::LateScores,
        ..captured_item()
    };
    let wires = sent(make, &[&item, &late], 1).await;
    assert_headers(capture, &wires[0]);
    let body = base64::engine::general_purpose::STANDARD
        .decode(capture["body_base64"].as_str().unwrap())
        .unwrap();
    let (captured, captured_spans) = decode(&body);
    let (resource, spans) = decode(&wires[0].body);
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
    // Scores are evaluations of the span, and late ones a span below it.
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
async fn spans_and_annotations_for_phoenix_are_the_captured_ones() {
    let make = |base: &str| {
        let client = client(std::time::Duration::from_secs(9)).unwrap();
        let settings = PhoenixSettings {
            project: "summarizer".into(),
            ..PhoenixSettings::default()
        };
        Phoenix::new(client, &settings, base)
    };
    let mut item = captured_item();
    item.result.sizes.text_tokens = 14;
    item.result.sizes.summary_tokens = 6;
    item.scores = item.scores.map(|scores| Scores {
        rouge1: 0.5714,
        rouge2: 0.3333,
        ..scores
    });
    let wires = sent(make, &[&item], 2).await;
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/contracts/phoenix/otlp_export_request.pb"
    );
    let (captured, captured_spans) = decode(&std::fs::read(path).unwrap());
    let (resource, spans) = decode(&wires[0].body);
    assert_eq!(wires[0].line, "POST /v1/traces HTTP/1.1");
    assert_eq!(wires[0].headers["content-type"], "application/x-protobuf");
    assert_attributes(&captured, &resource, &["service.name"]);
    assert_eq!(captured_spans.len(), spans.len());
    for (captured, sent) in captured_spans.iter().zip(&spans) {
        assert_eq!((&captured.name, captured.kind), (&sent.name, sent.kind));
        assert_eq!(captured.status, sent.status);
        let mut wanted = attributes(&captured.attributes);
        // Of the batch that the captured script was; a job has one only when it came in one.
        wanted.remove("session.id");
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
    assert_headers(&capture, &wires[1]);
    let body: Value = serde_json::from_slice(&wires[1].body).unwrap();
    let annotations = body["data"].as_array().unwrap();
    let span_id = super::otlp::hex(&llm.span_id);
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
