//! Forwarding to Arize, replaced by a server that compares requests with captures of Arize's own clients.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

use precis_schemas::rest::Status;
use precis_tests::receiver::{Answer, Receiver, Request, numbers_of, text_of};
use precis_tests::{Options, Product, eventually, id_of, samples};
use serde_json::{Value, json};

use crate::PROGRAM;

const RECORDS: &str = "/v1/log";
const TRACES: &str = "/v1/traces";
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a product that forwards to `receiver`.
async fn product(receiver: &Receiver, send: &str, more: &[&str]) -> Product {
    let url = &receiver.url;
    let mut settings = vec![
        "arize.api_key=KEY-of-the-space-471147114711".to_owned(),
        "arize.space_id=SPACE-471147114711".to_owned(),
        format!("arize.send={send}"),
        format!("arize.otlp_endpoint={url}{TRACES}"),
        format!("arize.log_endpoint={url}{RECORDS}"),
        "arize.model_id=summarizer".to_owned(),
        "arize.model_version=1.0".to_owned(),
        "worker.embeddings=both".to_owned(),
    ];
    settings.extend(more.iter().map(|text| (*text).to_owned()));
    let options = Options {
        settings,
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

/// Reads a captured request.
fn captured(file: &str) -> Value {
    let path = format!("{}/../monitor/contracts/arize/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(path).expect("the capture exists");
    serde_json::from_slice::<Value>(&text).expect("it is JSON")["request"].clone()
}

/// Compares all headers of the capture except those that identify the client.
fn assert_headers(request: &Request, capture: &Value) {
    for (name, value) in capture["headers"].as_object().unwrap() {
        let value = match value.as_str().unwrap() {
            "DUMMY_API_KEY" => "KEY-of-the-space-471147114711",
            "DUMMY_SPACE_ID" => "SPACE-471147114711",
            other => other,
        };
        let lower = name.to_ascii_lowercase();
        if lower.contains("arize")
            || lower.contains("space")
            || lower.contains("key")
            || lower == "content-type"
        {
            let sent = request
                .headers
                .get(&lower)
                .unwrap_or_else(|| panic!("{name} is sent"));
            assert_eq!(sent, value, "{name}");
        }
    }
    let sent = request.headers.get("authorization").expect("a key is sent");
    assert_eq!(sent, "KEY-of-the-space-471147114711");
}

fn records_by_id(receiver: &Receiver) -> BTreeMap<String, Vec<Value>> {
    let mut records: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for request in receiver.taken(RECORDS) {
        let record = request.json();
        let id = record["prediction_id"].as_str().expect("an id").to_owned();
        records.entry(id).or_default().push(record);
    }
    records
}

#[tokio::test]
async fn predictions_reach_arize_as_traces_and_records_unless_opted_out() {
    let receiver = Receiver::start().await;
    let product = product(&receiver, "both", &["arize.sampling_rate=0"]).await;
    let sample = samples::get("storm-ingrid-coast");
    let text = &sample.article;
    let reference = "A storm hit the coast.";
    let not_sampled = product
        .summarize(&json!({"text": "Rain fell. It was wet."}))
        .await;
    let forbidden = json!({"text": "Rain fell again.", "send_to_arize": false});
    let forbidden = product.summarize(&forbidden).await;
    let wanted =
        json!({"text": text, "reference": reference, "send_to_arize": true, "metadata": {"feed": "7"}});
    let view = product.summarize(&wanted).await;
    let id = id_of(&view.id);
    let record = eventually(PATIENCE, "the record exists", async || {
        records_by_id(&receiver).remove(id.as_str())
    })
    .await;
    let spans = eventually(PATIENCE, "the trace exists", async || {
        let spans = receiver.spans();
        (!spans.is_empty()).then_some(spans)
    })
    .await;

    // Vectors of the stored result, which the worker computed for both texts.
    let stored = product.result(&id).await.expect("the result is stored");
    let embeddings = stored.embeddings.expect("it has vectors");
    let numbers = |vector: Option<precis_schemas::embedding::EmbeddingVector>| -> Vec<f64> {
        let vector = vector.expect("a vector");
        vector.as_slice().iter().copied().map(f64::from).collect()
    };
    let (document, summary) = (numbers(embeddings.document), numbers(embeddings.summary));
    assert_eq!((document.len(), summary.len()), (256, 256));
    assert_ne!(document, summary);
    let row = product.rows_of(&id).await.remove(0);
    // The row contains the worker's vectors too.
    for (column, vector) in [("text_embedding", &document), ("summary_embedding", &summary)] {
        let stored = row[column].as_array().unwrap().iter();
        let stored: Vec<f32> = stored.map(|number| number.as_f64().unwrap() as f32).collect();
        let made: Vec<f32> = vector.iter().map(|number| *number as f32).collect();
        assert_eq!(stored, made, "{column}");
    }

    let [record] = &record[..] else {
        panic!("the record was sent more than once")
    };
    assert_headers(&receiver.taken(RECORDS)[0], &captured("stream_log_request.json"));
    let contract = &captured("stream_log_request.json")["body_json"];
    let prediction = &record["prediction"];
    for key in ["model_id", "environment_params", "is_generative_llm_record"] {
        assert_eq!(record[key], contract[key], "{key}");
    }
    for key in ["model_version", "prediction_label"] {
        assert_eq!(prediction[key], contract["prediction"][key], "{key}");
    }
    let embedding = |name: &str| &prediction["features"][name]["embedding"];
    let tokens = |name: &str| &embedding(name)["raw_data"]["tokenArray"]["tokens"];
    assert_eq!(tokens("prompt"), &json!([text]));
    assert_eq!(tokens("response"), &json!([view.summary]));
    assert_eq!(embedding("prompt")["vector"], json!(document));
    assert_eq!(embedding("response")["vector"], json!(summary));
    for (tag, column) in [
        ("score_rouge1", "rouge1"),
        ("score_rouge2", "rouge2"),
        ("score_rougeL", "rougeL"),
    ] {
        assert_eq!(prediction["tags"][tag]["double"], row[column], "{tag}");
    }
    assert!(prediction["tags"]["score_bleu"]["double"].is_f64());
    assert_eq!(prediction["tags"]["feed"], json!({"string": "7"}));

    assert_headers(&receiver.taken(TRACES)[0], &captured("otlp_http_request.json"));
    assert_eq!(spans.len(), 2, "{spans:?}");
    let (llm, embed) = (&spans[0].1, &spans[1].1);
    assert_eq!(
        text_of(&llm.attributes, "openinference.span.kind").as_deref(),
        Some("LLM")
    );
    assert_eq!(text_of(&llm.attributes, "input.value").as_ref(), Some(text));
    assert_eq!(text_of(&llm.attributes, "output.value"), view.summary);
    assert_eq!(embed.parent_span_id, llm.span_id);
    let vector = "embedding.embeddings.0.embedding.vector";
    assert_eq!(numbers_of(&embed.attributes, vector), Some(document));

    // Everything earlier in the stream was processed before it.
    let ids: BTreeSet<String> = records_by_id(&receiver).into_keys().collect();
    assert_eq!(ids, BTreeSet::from([id.to_string()]));
    for other in [forbidden, not_sampled] {
        assert_eq!(other.status, Status::Succeeded);
    }
    // No log contains the key.
    for log in std::fs::read_dir(product.data().join("logs"))
        .expect("there are logs")
        .flatten()
    {
        let text = std::fs::read_to_string(log.path()).unwrap_or_default();
        assert!(!text.contains("471147114711"), "{}", log.path().display());
    }
}

#[tokio::test]
async fn an_arize_outage_loses_and_duplicates_nothing() {
    let receiver = Receiver::start().await;
    let settings = ["arize.timeout_seconds=5", "arize.circuit_open_seconds=1"];
    let product = product(&receiver, "records", &settings).await;
    let dead = product.last_dead_letter().await;
    let mut troubles = vec![
        Answer::Page,
        Answer::Hang,
        Answer::Reset,
        Answer::Status(500),
        Answer::Later(429, 3),
        Answer::Status(503),
    ];
    // After the outage, one poisoned record is refused and the rest accepted. A request that contains both is refused
    // and split.
    receiver.answers(move |request| {
        let poison = String::from_utf8_lossy(&request.body).contains("poison");
        match troubles.pop() {
            Some(trouble) => trouble,
            None if poison => Answer::Status(400),
            None => Answer::Take,
        }
    });
    let (mut ids, mut handles) = (BTreeSet::new(), vec![]);
    for number in 0..8 {
        let word = if number == 3 { "poison" } else { "rain" };
        let view = product
            .submit(&json!({"text": format!("There was {word} on day {number}.")}))
            .await;
        ids.insert((number, id_of(&view.id).to_string()));
        handles.push(view.id);
    }
    let poisoned = ids
        .iter()
        .find(|(number, _)| *number == 3)
        .cloned()
        .expect("it is there")
        .1;
    let good: BTreeSet<String> = ids
        .into_iter()
        .map(|(_, id)| id)
        .filter(|id| *id != poisoned)
        .collect();
    // Clients and rows do not wait for Arize.
    for handle in &handles {
        product.finished(handle).await;
    }
    for id in &good {
        product.rows_of(&id.parse().expect("an id")).await;
    }
    eventually(PATIENCE, "all records have arrived", async || {
        let taken: BTreeSet<String> = records_by_id(&receiver).into_keys().collect();
        (taken == good).then_some(())
    })
    .await;
    let letter = product
        .dead_letter(dead, |letter| letter.subject.contains(&poisoned))
        .await;
    assert!(
        letter.reason.message.starts_with("arize-records: 400"),
        "{}",
        letter.reason
    );
    let doubled: Vec<_> = records_by_id(&receiver)
        .into_iter()
        .filter(|(_, all)| all.len() > 1)
        .collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(receiver.answered(Answer::Later(429, 3)), 1);
    // The forwarder honoured `Retry-After`; its own backoff is much shorter.
    let alone = receiver
        .left_alone_after(Answer::Later(429, 3))
        .expect("it went on");
    assert!(alone >= Duration::from_secs(3), "{alone:?}");
    let metrics = product
        .http
        .get(format!("{}/metrics", product.monitor))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let refused = "precis_monitor_forwarded_records_total{sink=\"arize-records\",outcome=\"refused\"} 1";
    assert!(metrics.contains(refused), "{metrics}");
}

#[tokio::test]
async fn the_circuit_breaker_probes_a_failing_arize_until_it_recovers() {
    let receiver = Receiver::start().await;
    let product = product(&receiver, "records", &["arize.circuit_open_seconds=2"]).await;
    let away = Answer::Status(500);
    receiver.answers(move |_| away);
    let circuit = async |state: &str| {
        let line = format!("precis_monitor_forward_circuit_open{{sink=\"arize-records\"}} {state}");
        eventually(PATIENCE, &line, async || {
            let url = format!("{}/metrics", product.monitor);
            let metrics = product.http.get(url).send().await.ok()?.text().await.ok()?;
            metrics.contains(&line).then_some(())
        })
        .await;
    };
    let mut ids = BTreeSet::new();
    for number in 0..6 {
        let view = product
            .submit(&json!({"text": format!("There was rain on day {number}.")}))
            .await;
        ids.insert(id_of(&view.id).to_string());
    }
    circuit("1").await;
    // Six records wait, and the circuit breaker tries one every two seconds, plus or minus a quarter.
    let (open, tried) = (Instant::now(), receiver.answered(away));
    eventually(PATIENCE, "the receiver gets another request", async || {
        (receiver.answered(away) >= tried + 3).then_some(())
    })
    .await;
    assert!(open.elapsed() >= Duration::from_secs(3), "{:?}", open.elapsed());

    receiver.answers(|_| Answer::Take);
    eventually(PATIENCE, "all records have arrived", async || {
        (records_by_id(&receiver).into_keys().collect::<BTreeSet<_>>() == ids).then_some(())
    })
    .await;
    assert!(records_by_id(&receiver).values().all(|all| all.len() == 1));
    circuit("0").await;
}

#[tokio::test]
async fn late_references_reach_arize_and_phoenix_as_scores() {
    let receiver = Receiver::start().await;
    let phoenix = Receiver::start().await;
    let url = format!("phoenix.url={}", phoenix.url);
    let product = product(&receiver, "both", &[&url]).await;
    let sample = samples::get("storm-ingrid-coast");
    let view = product.summarize(&json!({"text": sample.article})).await;
    let forbidden = json!({"text": "Rain fell again.", "send_to_arize": false});
    let forbidden = product.summarize(&forbidden).await;
    let id = id_of(&view.id);
    for handle in [&forbidden.id, &view.id] {
        let body = json!({"reference": sample.reference});
        let (status, answer) = product.post(&format!("/v1/jobs/{handle}/reference"), &body).await;
        assert_eq!(status, 202, "{answer}");
    }
    let records = eventually(PATIENCE, "the actuals exist", async || {
        let records = records_by_id(&receiver).remove(id.as_str())?;
        (records.len() == 2).then_some(records)
    })
    .await;
    let row = eventually(PATIENCE, "the row has scores", async || {
        let row = product.rows_of(&id).await.remove(0);
        (!row["rouge1"].is_null()).then_some(row)
    })
    .await;
    let scores = [
        ("score_bleu", "bleu"),
        ("score_rouge1", "rouge1"),
        ("score_rouge2", "rouge2"),
        ("score_rougeL", "rougeL"),
    ];

    // The record of the prediction, and its actuals.
    let is_actual = |record: &&Value| record.get("actual").is_some();
    let actual = records
        .iter()
        .find(is_actual)
        .expect("one of them is the actuals");
    let contract = &captured("stream_log_request_latent_tags.json")["body_json"];
    for key in ["model_id", "environment_params", "is_generative_llm_record"] {
        assert_eq!(actual[key], contract[key], "{key}");
    }
    assert_eq!(
        actual["actual"]["actual_label"],
        contract["actual"]["actual_label"]
    );
    assert_eq!(actual["prediction_id"], id.as_str());
    for (tag, column) in scores {
        assert_eq!(actual["actual"]["tags"][tag]["double"], row[column], "{tag}");
    }

    // A child span of the model's span.
    let (llm, evaluator) = eventually(PATIENCE, "the span of the scores exists", async || {
        let spans = receiver.spans();
        let of_kind = |kind: &str| {
            let is_it = |span: &&(String, opentelemetry_proto::tonic::trace::v1::Span)| {
                text_of(&span.1.attributes, "openinference.span.kind").as_deref() == Some(kind)
            };
            spans.iter().find(is_it).map(|(_, span)| span.clone())
        };
        Some((of_kind("LLM")?, of_kind("EVALUATOR")?))
    })
    .await;
    assert_eq!(
        (&evaluator.trace_id, &evaluator.parent_span_id),
        (&llm.trace_id, &llm.span_id)
    );
    let input = text_of(&evaluator.attributes, "input.value");
    assert_eq!(input.as_ref(), Some(&sample.reference));

    // Annotations of the span.
    let annotations = eventually(PATIENCE, "the annotations exist", async || {
        let request = phoenix.taken("/v1/span_annotations").pop()?;
        Some(request.json()["data"].as_array().expect("a list").clone())
    })
    .await;
    assert_eq!(annotations.len(), scores.len());
    let span_id: String = llm.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    for (annotation, (name, column)) in annotations.iter().zip(scores) {
        assert_eq!(annotation["span_id"], span_id.as_str());
        assert_eq!(
            (&annotation["name"], &annotation["result"]["score"]),
            (&json!(name), &row[column])
        );
    }

    // The reference of the job that opted out was processed first.
    assert!(!records_by_id(&receiver).contains_key(id_of(&forbidden.id).as_str()));
    assert_eq!(phoenix.taken("/v1/span_annotations").len(), 1);
}
