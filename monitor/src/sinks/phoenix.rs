//! Phoenix, Arize's self-hosted product: spans over OTLP, scores as annotations of the spans.

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use precis_runtime::config::{self, Secret};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::forward::http::{self, SendError};
use super::forward::item::{Item, ItemKind};
use super::forward::limits;
use super::forward::target::Target;
use super::otlp::export;
use super::otlp::openinference::{self, SpanOptions};

/// A Phoenix server.
#[derive(Debug)]
pub(crate) struct Phoenix {
    client: Client,
    url: String,
    key: Option<Secret>,
    resource: Vec<KeyValue>,
    options: SpanOptions,
    max_batch: usize,
}

impl Phoenix {
    /// Creates the target.
    pub(crate) fn new(client: Client, settings: &config::PhoenixConfig, url: &str) -> Self {
        Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
            key: settings.api_key.clone(),
            resource: export::resource(&settings.project),
            options: SpanOptions {
                texts: settings.texts == Some(true),
                scores: false,
            },
            max_batch: settings.max_batch,
        }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    async fn spans(&self, items: &[&Item]) -> Result<(), SendError> {
        let spans: Vec<_> = items
            .iter()
            .filter(|item| item.kind == ItemKind::Prediction)
            .flat_map(|item| openinference::spans(item, self.options))
            .collect();
        if spans.is_empty() {
            return Ok(());
        }
        let request = self
            .post("/v1/traces")
            .header(CONTENT_TYPE, export::PROTOBUF)
            .body(export::request(self.resource.clone(), spans));
        export::check_response(&http::send(request).await?)
    }

    async fn annotations(&self, items: &[&Item]) -> Result<(), SendError> {
        let data: Vec<Value> = items
            .iter()
            .flat_map(|item| annotations(item, self.options.texts))
            .collect();
        if data.is_empty() {
            return Ok(());
        }
        let body = json!({"data": data});
        // With `sync`, Phoenix answers once the annotations are stored. It stores spans a moment after accepting them.
        let mut outcome = Ok(());
        for wait_ms in [0, 200, 400, 800, 1_600, 3_200] {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let request = self.post("/v1/span_annotations?sync=true").json(&body);
            outcome = http::send(request).await.and_then(|answer| {
                let is_json = serde_json::from_slice::<Value>(&answer.body).is_ok();
                (is_json || answer.body.is_empty())
                    .then_some(())
                    .ok_or_else(|| answer.unreadable())
            });
            if !outcome.as_ref().is_err_and(is_unknown_span) {
                return outcome;
            }
        }
        outcome.map_err(|error| SendError::NotYet(error.to_string()))
    }
}

/// Whether Phoenix lacks the span: it was deleted, or never forwarded.
fn is_unknown_span(error: &SendError) -> bool {
    matches!(error, SendError::Unavailable { reason, status: Some(404), .. } if reason.contains("do not exist"))
}

/// Returns the scores of an item as annotations of its span. Phoenix identifies annotations by span, name and
/// identifier, so later scores overwrite earlier ones.
pub(crate) fn annotations(item: &Item, texts: bool) -> Vec<Value> {
    let Some(scores) = &item.scores else {
        return vec![];
    };
    let span = export::hex(&openinference::llm_span_of(&item.result.id));
    let reference = item.result.reference.as_deref().filter(|_| texts);
    let one = |(name, score): (&str, f64)| {
        let mut annotation = json!({
            "span_id": span,
            "name": name,
            "annotator_kind": "CODE",
            "result": {"score": score},
            "identifier": "",
        });
        if let Some(reference) = reference {
            let reference = limits::cut(reference, limits::TAG_CHARS);
            annotation["metadata"] = json!({"reference": reference});
        }
        annotation
    };
    scores.named().into_iter().map(one).collect()
}

impl Target for Phoenix {
    fn max_request_items(&self) -> usize {
        self.max_batch
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn rejection(&self, _: &Item) -> Option<String> {
        None
    }

    async fn send(&self, items: &[&Item]) -> Result<(), SendError> {
        self.spans(items).await?;
        self.annotations(items).await
    }
}
