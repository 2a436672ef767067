//! Traces: OTLP over HTTP, with the headers that `arize-otel` sends.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use precis_runtime::config;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use super::headers;
use crate::sinks::forward::http::{self, SendError};
use crate::sinks::forward::item::{Item, ItemKind};
use crate::sinks::forward::limits;
use crate::sinks::forward::target::Target;
use crate::sinks::otlp::export;
use crate::sinks::otlp::openinference::{self, SpanOptions};

/// The trace collector of Arize's cloud.
#[derive(Debug)]
pub(crate) struct Traces {
    client: Client,
    url: String,
    headers: HeaderMap,
    resource: Vec<KeyValue>,
    options: SpanOptions,
    max_batch: usize,
}

impl Traces {
    /// Creates the target.
    pub(crate) fn new(client: Client, settings: &config::ArizeConfig, key: &str, space: &str) -> Self {
        let mut resource = export::resource(&settings.project);
        resource.push(export::text("arize.project.type", "application"));
        let instance = uuid::Uuid::now_v7().to_string();
        resource.push(export::text("service.instance.id", instance));
        Self {
            client,
            url: settings.otlp_endpoint.expose().to_owned(),
            headers: request_headers(key, space),
            resource,
            options: SpanOptions {
                texts: settings.texts == Some(true),
                scores: true,
            },
            max_batch: settings.max_batch,
        }
    }
}

fn request_headers(key: &str, space: &str) -> HeaderMap {
    headers::sensitive(&[
        ("authorization", key),
        ("api_key", key),
        ("arize-space-id", space),
        ("space_id", space),
        ("arize-interface", "otel"),
        ("sdk-language", "rust"),
        ("language-version", env!("CARGO_PKG_RUST_VERSION")),
        ("sdk-version", env!("CARGO_PKG_VERSION")),
        ("sdk-package-name", "precis-monitor"),
    ])
}

impl Target for Traces {
    fn max_request_items(&self) -> usize {
        self.max_batch
    }

    fn concurrency(&self) -> usize {
        2
    }

    fn rejection(&self, item: &Item) -> Option<String> {
        let now = precis_runtime::clock::now();
        limits::rejection(item.result.id.as_str(), item.began_at(), now)
    }

    async fn send(&self, items: &[&Item]) -> Result<(), SendError> {
        let now = precis_runtime::clock::now();
        let spans: Vec<_> = items
            .iter()
            .flat_map(|item| match (item.kind, &item.scores) {
                (ItemKind::Prediction, _) => openinference::spans(item, self.options),
                (ItemKind::LateScores, Some(scores)) => {
                    vec![openinference::late_scores(item, scores, self.options, now)]
                }
                (ItemKind::LateScores, None) => vec![],
            })
            .collect();
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, export::PROTOBUF)
            .body(export::request(self.resource.clone(), spans));
        let response = http::send(request.headers(self.headers.clone())).await?;
        export::check_response(&response)
    }
}
