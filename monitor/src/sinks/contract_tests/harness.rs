//! A server that records requests, and comparisons with captured requests.

use std::collections::BTreeMap;

use precis_runtime::config::{ArizeConfig, Secret, ServerUrl};
use precis_schemas::embedding::{EmbeddingVector, Embeddings};
use precis_schemas::result::{ModelRef, WorkerRef};
use precis_schemas::{GenerationParams, Token};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::sinks::forward::item::{Item, ItemScores, tests::item};
use crate::sinks::forward::target::Target;

const TEXT: &str = "The cat sat on the mat. It purred.";
const SUMMARY: &str = "Cat sat on mat.";

pub(super) fn read(file: &str) -> Value {
    let path = format!("{}/contracts/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Returns the prediction that the captured requests describe.
pub(super) fn captured_item() -> Item {
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
        document: Some(EmbeddingVector(vec![0.125, -0.5, 0.75, 1.0])),
        summary: Some(EmbeddingVector(vec![0.25, 0.5, -0.75, 0.0])),
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
    item.scores = Some(ItemScores {
        bleu: 27.31,
        rouge1: 0.571_428_571_428_571_4,
        rouge2: 0.333_333_333_333_333_3,
        rouge_l: 0.5,
    });
    item
}

/// A recorded request.
pub(super) struct RecordedRequest {
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// Sends items to a server that accepts everything, and returns the `requests` it received.
pub(super) async fn send<T: Target>(
    make: impl FnOnce(&str) -> T,
    items: &[&Item],
    requests: usize,
) -> Vec<RecordedRequest> {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = make(&format!("http://{}", listener.local_addr().unwrap()));
    let serving = async {
        let mut recorded = vec![];
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![];
            let request = loop {
                let mut part = vec![0; 65_536];
                let count = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..count]);
                if let Some(request) = parse(&bytes) {
                    break request;
                }
                assert!(count > 0, "the request is whole");
            };
            recorded.push(request);
            let response = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(response).await.unwrap();
        }
        recorded
    };
    let (recorded, outcome) = tokio::join!(serving, target.send(items));
    outcome.unwrap();
    recorded
}

fn parse(bytes: &[u8]) -> Option<RecordedRequest> {
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
    (body.len() >= length).then_some(RecordedRequest { line, headers, body })
}

pub(super) fn settings(base: &str) -> ArizeConfig {
    ArizeConfig {
        api_key: Some(Secret::new("DUMMY_API_KEY")),
        space_id: Some(Secret::new("DUMMY_SPACE_ID")),
        log_endpoint: ServerUrl::new(format!("{base}/v1/log")),
        otlp_endpoint: ServerUrl::new(format!("{base}/v1/traces")),
        model_id: "summarizer".into(),
        model_version: Some("1.0".into()),
        project: "summarizer".into(),
        texts: Some(true),
        ..ArizeConfig::default()
    }
}

/// Asserts that every captured header is sent. Values must match unless they identify the client.
pub(super) fn assert_headers(capture: &Value, request: &RecordedRequest) {
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
        let sent = request
            .headers
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is sent"));
        if !name.contains("sdk-") && !name.contains("language") {
            assert_eq!(value, sent, "{name}");
        }
    }
    assert_eq!(
        request.line,
        format!("POST {} HTTP/1.1", capture["path"].as_str().unwrap())
    );
}

/// Asserts that `sent` contains every field of `captured` with the same value.
pub(super) fn assert_within(captured: &Value, sent: &Value, at: &str) {
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

/// Returns these entries of `map`.
pub(super) fn only(map: &Value, names: &[&str]) -> Value {
    let entries = names
        .iter()
        .filter_map(|name| Some((*name, map.get(name)?.clone())));
    Value::Object(entries.map(|(name, value)| (name.to_owned(), value)).collect())
}
