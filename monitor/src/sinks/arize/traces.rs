//! Predictions as traces: OTLP over HTTP, with the headers that `arize-otel` sends.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use precis_runtime::config;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use crate::sinks::forward::http::{self, SendError};
use crate::sinks::forward::item::{Item, Kind};
use crate::sinks::forward::parcel::Target;
use crate::sinks::openinference::{self, Style};
use crate::sinks::{limits, otlp};

/// The collector of Arize's cloud.
#[derive(Debug)]
pub(crate) struct Traces {
    client: Client,
    url: String,
    headers: HeaderMap,
    resource: Vec<KeyValue>,
    style: Style,
    most: usize,
}

impl Traces {
    /// The sink of `settings`, with its credentials.
    pub(crate) fn new(client: Client, settings: &config::ArizeConfig, key: &str, space: &str) -> Self {
        let mut resource = otlp::resource(&settings.project);
        resource.push(otlp::text("arize.project.type", "application"));
        let instance = uuid::Uuid::now_v7().to_string();
        resource.push(otlp::text("service.instance.id", instance));
        Self {
            client,
            url: settings.otlp_endpoint.expose().to_owned(),
            headers: headers(key, space),
            resource,
            style: Style {
                texts: settings.texts == Some(true),
                scores: true,
            },
            most: settings.max_batch,
        }
    }
}

fn headers(key: &str, space: &str) -> HeaderMap {
    super::headers(&[
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
    fn name(&self) -> &'static str {
        "arize-traces"
    }

    fn most_in_request(&self) -> usize {
        self.most
    }

    fn concurrency(&self) -> usize {
        2
    }

    fn refusal(&self, item: &Item) -> Option<String> {
        let now = precis_runtime::clock::now();
        limits::refusal(item.result.id.as_str(), item.began_at(), now)
    }

    async fn send(&self, items: &[&Item]) -> Result<(), SendError> {
        let now = precis_runtime::clock::now();
        let spans: Vec<_> = items
            .iter()
            .flat_map(|item| match (item.kind, &item.scores) {
                (Kind::Prediction, _) => openinference::spans(item, self.style),
                (Kind::LateScores, Some(scores)) => {
                    vec![openinference::late_scores(item, scores, self.style, now)]
                }
                (Kind::LateScores, None) => vec![],
            })
            .collect();
        let count = spans.len();
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, otlp::PROTOBUF)
            .body(otlp::request(self.resource.clone(), spans));
        let answer = http::send(request.headers(self.headers.clone())).await?;
        otlp::read_answer(&answer, count)
    }
}
