//! One trace covers a job across all processes, log lines carry its id, and metrics match their inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use precis_tests::receiver::Receiver;
use precis_tests::{Options, Product, eventually};
use serde_json::{Value, json};

use crate::PROGRAM;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the span of this name in the client's trace, with its service.
fn find<'a>(spans: &'a [(String, Span)], name: &str) -> Option<&'a (String, Span)> {
    spans
        .iter()
        .find(|(_, span)| span.name == name && hex(&span.trace_id) == TRACE)
}

#[tokio::test]
async fn one_trace_covers_a_job_from_request_to_insert() {
    let receiver = Receiver::start().await;
    let options = Options {
        settings: vec![
            format!("telemetry.otlp_endpoint={}", receiver.url),
            "telemetry.otlp_headers.x-key=KEY-4711".into(),
            "telemetry.format=json".into(),
        ],
        ..Options::default()
    };
    let product = Product::start(PROGRAM, options).await;
    let request = product
        .http
        .post(format!("{}/v1/summaries", product.api))
        .header("prefer", "wait=100")
        .header("traceparent", format!("00-{TRACE}-{CLIENT}-01"))
        .json(&json!({"text": "The harbour stayed open. Rain fell on the coast."}));
    let answer = request.send().await.expect("the API answers");
    assert_eq!(answer.status(), 200);

    let chain = [
        ("POST /v1/summaries", "precis-api", SpanKind::Server),
        ("publish jobs", "precis-api", SpanKind::Producer),
        ("process jobs", "precis-worker", SpanKind::Consumer),
        ("publish results", "precis-worker", SpanKind::Producer),
        ("process results", "precis-monitor", SpanKind::Consumer),
    ];
    let spans = eventually(Duration::from_secs(60), "all spans are exported", async || {
        let spans = receiver.spans();
        let all = chain.iter().all(|(name, ..)| find(&spans, name).is_some());
        let others = ["receive jobs", "INSERT prediction_versions"];
        let others = others
            .iter()
            .all(|name| spans.iter().any(|(_, span)| span.name == *name));
        (all && others).then_some(spans)
    })
    .await;
    let mut parent = CLIENT.to_owned();
    for (name, service, kind) in chain {
        let (of, span) = find(&spans, name).unwrap();
        assert_eq!(of, service, "{name}");
        assert_eq!(hex(&span.parent_span_id), parent, "the parent of {name}");
        assert_eq!(span.kind(), kind, "{name}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{name}");
        parent = hex(&span.span_id);
    }
    // The model's span lies within the job's span at the worker.
    let (_, process) = find(&spans, "process jobs").unwrap();
    for stage in ["encode", "decode"] {
        let (_, span) = find(&spans, stage).unwrap_or_else(|| panic!("{stage} is there"));
        assert_eq!(span.parent_span_id, process.span_id, "{stage}");
        assert!(
            span.start_time_unix_nano >= process.start_time_unix_nano,
            "{stage}"
        );
        assert!(span.end_time_unix_nano <= process.end_time_unix_nano, "{stage}");
    }
    // A span over many jobs is linked with each of them, in both directions.
    let linked = |from: &Span, to: &Span| from.links.iter().any(|link| link.span_id == to.span_id);
    let (_, published) = find(&spans, "publish jobs").unwrap();
    let pulled = spans
        .iter()
        .map(|(_, span)| span)
        .find(|span| span.name == "receive jobs" && linked(span, published));
    assert!(linked(process, pulled.expect("the pull is linked with the job")));
    let (_, published) = find(&spans, "publish results").unwrap();
    let (_, stored) = find(&spans, "process results").unwrap();
    let insert = spans
        .iter()
        .map(|(_, span)| span)
        .find(|span| span.name == "INSERT prediction_versions" && linked(span, published))
        .expect("the insert is linked with the result");
    assert!(linked(stored, insert));
    assert_ne!(hex(&insert.trace_id), TRACE);
    let first = &receiver.taken("/v1/traces")[0];
    assert_eq!(first.headers["x-key"], "KEY-4711");

    assert_logs(&product);
}

/// Every line is one JSON object, and lines about the job contain its trace id.
fn assert_logs(product: &Product) {
    let mut about = BTreeMap::new();
    for role in ["api", "worker", "monitor"] {
        let entries = std::fs::read_dir(product.data().join("logs"))
            .expect("there are logs")
            .flatten();
        let logs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(role));
        for log in logs {
            let text = std::fs::read_to_string(log.path()).unwrap();
            for line in text.lines().filter(|line| line.starts_with('{')) {
                let line: Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                for key in ["timestamp", "level", "target", "message"] {
                    assert!(line[key].is_string(), "{line}");
                }
                let message = line["message"].as_str().unwrap().to_owned();
                assert!(!line.to_string().contains("KEY-4711"), "{line}");
                if line["trace_id"] == TRACE {
                    about.insert((role, message), line);
                }
            }
        }
    }
    assert!(about.contains_key(&("api", "request".to_owned())), "{about:?}");
    assert!(
        about.contains_key(&("worker", "job done".to_owned())),
        "{about:?}"
    );
}

/// Returns name and labels of every sample, and every described name.
fn read(exposition: &str) -> (Vec<String>, BTreeSet<String>) {
    let samples = exposition
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let series = samples
        .map(|line| line.rsplit_once(' ').expect("a value").0.to_owned())
        .collect();
    let described = exposition.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let described = described
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    (series, described)
}

#[tokio::test]
async fn every_metric_of_every_role_is_unique_described_and_listed() {
    let product = crate::shared().await;
    product
        .summarize(&json!({"text": "The harbour stayed open. Rain fell."}))
        .await;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
    let inventory = std::fs::read_to_string(page).expect("the inventory is there");
    for address in [&product.api, &product.monitor, &product.worker_admin] {
        let answer = product
            .http
            .get(format!("{address}/metrics"))
            .send()
            .await
            .expect("it answers");
        let exposition = answer.text().await.expect("a text");
        let (series, described) = read(&exposition);
        assert!(series.len() >= 4, "{exposition}");
        let unique: BTreeSet<&String> = series.iter().collect();
        assert_eq!(
            unique.len(),
            series.len(),
            "a series is given twice: {exposition}"
        );
        for one in &series {
            let name = one.split('{').next().unwrap();
            let histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let known = [Some(name), histogram]
                .into_iter()
                .flatten()
                .find(|name| described.contains(*name));
            let known = known.unwrap_or_else(|| panic!("{name} is not described"));
            assert!(
                inventory.contains(&format!("| `{known}` |")),
                "{known} is not in docs/reference/metrics.md"
            );
        }
    }
}
