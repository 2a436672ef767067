//! Records of a generative model: `POST /v1/log`, one record per request, as Arize's SDK 7.x sends them.
//!
//! The body is protobuf's JSON with the names of the schema: an integer is `{"int": "34"}`, a number `{"double": 0.5}`,
//! a string `{"string": "x"}`. Empty fields are left out.

use precis_runtime::config;
use precis_schemas::embedding::EmbeddingVector;
use precis_schemas::time::millis_between;
use reqwest::Client;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::headers;
use crate::sinks::forward::http::{self, SendError};
use crate::sinks::forward::item::{Item, ItemKind, ItemScores};
use crate::sinks::forward::limits;
use crate::sinks::forward::target::Target;
use crate::sinks::otlp::openinference;

/// The record API of Arize's cloud.
#[derive(Debug)]
pub(crate) struct Records {
    client: Client,
    url: String,
    headers: HeaderMap,
    format: RecordFormat,
}

/// The format of records.
#[derive(Debug, Clone)]
pub(crate) struct RecordFormat {
    /// Arize's id of the model.
    pub(crate) model_id: String,
    /// Arize's version of the model. `None` means the revision of the weights.
    pub(crate) model_version: Option<String>,
    /// Whether to send texts.
    pub(crate) texts: bool,
}

impl Records {
    /// Creates the target.
    pub(crate) fn new(client: Client, settings: &config::ArizeConfig, key: &str, space: &str) -> Self {
        Self {
            client,
            url: settings.log_endpoint.expose().to_owned(),
            headers: request_headers(key, space),
            format: RecordFormat {
                model_id: settings.model_id.clone(),
                model_version: settings.model_version.clone(),
                texts: settings.texts == Some(true),
            },
        }
    }
}

fn request_headers(key: &str, space: &str) -> HeaderMap {
    headers::sensitive(&[
        ("authorization", key),
        ("grpc-metadata-arize-space-id", space),
        ("grpc-metadata-space_id", space),
        ("grpc-metadata-arize-interface", "stream"),
        ("grpc-metadata-sdk-language", "rust"),
        ("grpc-metadata-language-version", env!("CARGO_PKG_RUST_VERSION")),
        ("grpc-metadata-sdk-version", env!("CARGO_PKG_VERSION")),
    ])
}

impl Target for Records {
    fn max_request_items(&self) -> usize {
        1
    }

    fn concurrency(&self) -> usize {
        16
    }

    fn wants(&self, item: &Item) -> bool {
        item.kind == ItemKind::LateScores || item.succeeded()
    }

    fn rejection(&self, item: &Item) -> Option<String> {
        let now = precis_runtime::clock::now();
        limits::rejection(item.result.id.as_str(), item.result.submitted_at, now)
    }

    async fn send(&self, items: &[&Item]) -> Result<(), SendError> {
        for item in items {
            let request = self.client.post(&self.url).json(&self.format.body(item));
            http::send(request.headers(self.headers.clone())).await?;
        }
        Ok(())
    }
}

impl RecordFormat {
    /// Returns the body of an item's request.
    pub(crate) fn body(&self, item: &Item) -> Value {
        let mut body = json!({
            "model_id": self.model_id,
            "prediction_id": item.result.id,
            "environment_params": {"production": {}},
            "is_generative_llm_record": true,
        });
        match item.kind {
            ItemKind::Prediction => body["prediction"] = self.prediction(item),
            ItemKind::LateScores => {
                let tags = item.scores.as_ref().map(scores).unwrap_or_default();
                body["actual"] = json!({"tags": tags, "actual_label": label()});
            }
        }
        body
    }

    fn prediction(&self, item: &Item) -> Value {
        let result = &item.result;
        let embeddings = result.embeddings.as_ref();
        let document = embeddings.and_then(|both| both.document.as_ref());
        let summary = embeddings.and_then(|both| both.summary.as_ref());
        let mut features = Map::new();
        let prompt = self.embedding(document, Some(&result.text));
        let response = self.embedding(summary, result.summary.as_deref());
        for (name, value) in [("prompt", prompt), ("response", response)] {
            if let Some(value) = value {
                features.insert(name.into(), json!({"embedding": value}));
            }
        }
        for (name, value) in [
            ("channel", result.channel.as_str()),
            ("lane", result.lane.as_str()),
            ("tenant", result.tenant.as_str()),
        ] {
            features.insert(name.into(), string(value));
        }
        for (name, value) in [
            ("text_chars", result.sizes.text_chars),
            ("summary_chars", result.sizes.summary_chars),
            ("truncated_tokens", result.sizes.truncated_tokens),
        ] {
            features.insert(name.into(), int(value));
        }
        let version = self.model_version.as_deref().unwrap_or_else(|| item.revision());
        let mut prediction = json!({
            "timestamp": seconds(result.submitted_at),
            "features": features,
            "tags": tags(item),
            "prediction_label": label(),
            "llm_fields": {"llm_model_name": item.model_name(), "llm_params": params(item)},
        });
        if !version.is_empty() {
            prediction["model_version"] = json!(version);
        }
        prediction
    }

    /// Returns an embedding with its text, or the text alone.
    fn embedding(&self, vector: Option<&EmbeddingVector>, text: Option<&str>) -> Option<Value> {
        let text = text.filter(|text| self.texts && !text.is_empty());
        let vector = openinference::accepted_vector(vector);
        let mut embedding = Map::new();
        if let Some(vector) = vector {
            let numbers: Vec<f64> = vector.as_slice().iter().copied().map(f64::from).collect();
            embedding.insert("vector".into(), json!(numbers));
            embedding.insert("link_to_data".into(), json!(""));
        }
        if let Some(text) = text {
            let tokens = [limits::cut(text, limits::TEXT_CHARS)];
            embedding.insert("raw_data".into(), json!({"tokenArray": {"tokens": tokens}}));
        }
        (!embedding.is_empty()).then_some(Value::Object(embedding))
    }
}

fn int(value: u64) -> Value {
    json!({"int": value.to_string()})
}

fn string(value: &str) -> Value {
    json!({"string": limits::cut(value, limits::TAG_CHARS)})
}

/// Returns a number, with infinities as the SDK writes them, or `None` for NaN.
fn double(value: f64) -> Option<Value> {
    match value {
        value if value.is_nan() => None,
        value if value.is_infinite() => {
            let name = if value > 0.0 { "Infinity" } else { "-Infinity" };
            Some(json!({"double": name}))
        }
        value => Some(json!({"double": value})),
    }
}

/// Returns the label that the SDK sends if there is none.
fn label() -> Value {
    json!({"score_categorical": {"category": {"category": "1"}}})
}

/// Formats a time as RFC 3339 in whole seconds.
fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn scores(scores: &ItemScores) -> Map<String, Value> {
    let named = scores.named().into_iter();
    named
        .filter_map(|(name, score)| Some((name.to_owned(), double(score)?)))
        .collect()
}

fn tags(item: &Item) -> Map<String, Value> {
    let result = &item.result;
    let latency = millis_between(result.submitted_at, result.finished_at);
    let sizes = &result.sizes;
    let mut tags = Map::new();
    // The publisher's metadata first: Precis' own tags overwrite it. Arize reserves the suffix.
    for (name, value) in &result.metadata {
        if !name.ends_with("_shap") {
            tags.insert(name.clone(), string(value));
        }
    }
    tags.extend(item.scores.as_ref().map(scores).unwrap_or_default());
    // Tag names that Arize reserves.
    tags.insert("prompt_token_count".into(), int(sizes.text_tokens));
    tags.insert("response_token_count".into(), int(sizes.summary_tokens));
    tags.insert(
        "total_token_count".into(),
        int(sizes.text_tokens + sizes.summary_tokens),
    );
    tags.insert("response_latency_ms".into(), int(latency.round() as u64));
    for (name, value) in [
        ("latency_ms", latency),
        ("queue_ms", result.timings.queue_ms),
        ("encode_ms", result.timings.encode_ms),
        ("decode_ms", result.timings.decode_ms),
    ] {
        tags.extend(double(value).map(|value| (name.to_owned(), value)));
    }
    for (name, value) in [
        ("model_source", item.device()),
        (
            "worker",
            result.worker.as_ref().map_or("", |worker| worker.id.as_str()),
        ),
        ("trace_id", item.trace_id.as_deref().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            tags.insert(name.into(), string(value));
        }
    }
    tags
}

/// Returns the generation parameters as the SDK writes them: a flag is Python's text for it.
fn params(item: &Item) -> Map<String, Value> {
    // Serializing numbers and flags never fails.
    let params = serde_json::to_value(&item.result.params).unwrap_or_default();
    let Value::Object(params) = params else {
        return Map::new();
    };
    let value = |value: &Value| match value {
        Value::Bool(flag) => Some(string(if *flag { "True" } else { "False" })),
        Value::Number(number) if number.is_f64() => double(number.as_f64()?),
        Value::Number(number) => Some(json!({"int": number.to_string()})),
        Value::String(text) => Some(string(text)),
        _ => None,
    };
    params
        .iter()
        .filter_map(|(name, given)| Some((name.clone(), value(given)?)))
        .collect()
}
