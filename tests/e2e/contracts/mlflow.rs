//! MLflow's scoring server. Every captured request is sent, and the answer has the same status, content type and shape.
//!
//! Intended differences:
//!
//! | request | MLflow | here | reason |
//! | --- | --- | --- | --- |
//! | `err_unknown_key` | 400 | 200 | `{"articles": […]}` is the body of a SageMaker container on the same path |
//! | `err_model_raises` | 400 | 200 | the captured model rejected the word; this one summarizes it |
//! | `unknown` | `{"detail"}` | problem details with `detail` | the path is not MLflow's |
//! | `err_content_type` | lists Parquet too | does not | Parquet is not supported |
//! | messages | quote pandas and Python | equal in part | see [`SAME_UP_TO`] |
//! | `stack_trace` | present | absent | there is no Python |

use serde_json::{Value, json};

use super::{bytes_of, captured};
use crate::shared;

/// Requests whose message equals MLflow's only up to, or only from, a piece of text.
const SAME_UP_TO: &[(&str, &str)] = &[
    ("err_not_json", "Error: '"),
    ("err_no_body", "Error: '"),
    (
        "err_wrong_type",
        "serialized input Dataframe is compatible with the model for inference.",
    ),
    (
        "err_null",
        "serialized input Dataframe is compatible with the model for inference.",
    ),
];
const SAME_FROM: &[(&str, &str)] = &[(
    "err_missing_column",
    "with schema '['article': string (required)]'.",
)];

#[tokio::test]
async fn captured_exchanges_are_answered_like_mlflow() {
    let product = shared().await;
    let exchanges = captured("mlflow/exchanges.json");
    for exchange in exchanges.as_array().unwrap() {
        let name = exchange["name"].as_str().unwrap();
        let (request, expected) = (&exchange["request"], &exchange["response"]);
        let method = request["method"].as_str().unwrap().parse().unwrap();
        let url = format!("{}{}", product.api, request["path"].as_str().unwrap());
        let mut sent = product.http.request(method, url).body(bytes_of(&request["body"]));
        for (header, value) in request["headers"].as_object().unwrap() {
            sent = sent.header(header, value.as_str().unwrap());
        }
        let response = sent.send().await.unwrap();
        let status = response.status().as_u16();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let text = response.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        match name {
            "err_unknown_key" => {
                assert_eq!((status, body.as_array().map(Vec::len)), (200, Some(1)), "{text}");
                continue;
            }
            "err_model_raises" => {
                assert_eq!(status, 200, "{text}");
                assert!(body["predictions"][0]["summarization"].is_string());
                continue;
            }
            "unknown" => {
                assert_eq!(status, 404);
                assert!(body["detail"].is_string(), "{text}");
                continue;
            }
            _ => {}
        }
        assert_eq!(status, expected["status"], "{name}: {text}");
        assert_eq!(content_type, expected["content_type"].as_str().unwrap(), "{name}");
        if name == "err_content_type" {
            let listed = "Types: ['text/csv', 'application/json']. Got 'text/plain'.";
            assert!(text.ends_with(listed), "{text}");
        } else if let Some(same) = expected["text"].as_str() {
            assert_eq!(text, same, "{name}");
        } else {
            compare(name, &body, &expected["json"]);
        }
    }
}

fn compare(name: &str, body: &Value, expected: &Value) {
    if let Some(rows) = expected["predictions"].as_array() {
        let given = body["predictions"].as_array().unwrap();
        assert_eq!(given.len(), rows.len(), "{name}");
        for row in given {
            let columns: Vec<&String> = row.as_object().unwrap().keys().collect();
            assert_eq!(columns, ["summarization"], "{name}");
            assert!(!row["summarization"].as_str().unwrap().is_empty(), "{name}");
        }
        return;
    }
    let mut expected = expected.clone();
    let parts = expected.as_object_mut().unwrap();
    parts.remove("stack_trace");
    let message = body["message"].as_str().unwrap_or_default();
    let captured = parts
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let of = |list: &[(&str, &'static str)]| {
        list.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, text)| *text)
    };
    if let Some(until) = of(SAME_UP_TO) {
        let end = captured.find(until).expect("the capture contains it") + until.len();
        assert!(message.starts_with(&captured[..end]), "{name}: {message}");
        parts.insert("message".to_owned(), json!(message));
    } else if let Some(from) = of(SAME_FROM) {
        let begin = captured.find(from).expect("the capture contains it");
        assert!(message.ends_with(&captured[begin..]), "{name}: {message}");
        parts.insert("message".to_owned(), json!(message));
    }
    assert_eq!(*body, expected, "{name}");
}

#[tokio::test]
async fn rows_record_the_mlflow_channel() {
    let product = shared().await;
    let text = format!("Rain fell on {} hills. The river rose.", std::process::id());
    let body = json!({"dataframe_records": [{"article": text}]});
    let (status, answer) = product.post("/invocations", &body).await;
    assert_eq!(status, 200, "{answer}");
    let sql = format!("SELECT channel FROM predictions WHERE text = '{text}'");
    let rows = precis_tests::eventually(std::time::Duration::from_secs(60), "the row exists", async || {
        let rows = product.try_query(&sql).await.ok()?;
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows, [json!({"channel": "mlflow"})]);
}
