//! Exports spans to a collector: OTLP protobuf over HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use tokio::runtime::Handle;

use crate::config::{ServerUrl, TelemetryConfig};

/// Time limit of one export.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A failure to set up the exporter.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The endpoint is not a URL.
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(#[from] ExporterBuildError),
    /// The HTTP client can't be set up.
    #[error("HTTP client for telemetry.otlp_endpoint: {0}")]
    Client(#[from] reqwest::Error),
}

/// Creates an exporter to `endpoint`: a collector's base URL, or the full URL of its trace receiver.
pub(super) fn exporter(
    endpoint: &ServerUrl,
    settings: &TelemetryConfig,
) -> Result<SpanExporter, ExportError> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let headers = settings.otlp_headers.iter();
    Ok(SpanExporter::builder()
        .with_http()
        .with_http_client(Http {
            client,
            runtime: Handle::current(),
            failing: AtomicBool::new(false),
        })
        .with_endpoint(address(endpoint.expose()))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .with_headers(
            headers
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect(),
        )
        .build()?)
}

/// Appends the path of the trace receiver to an endpoint without a path.
fn address(endpoint: &str) -> String {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    match host.split_once('/') {
        None => format!("{endpoint}/v1/traces"),
        Some((_, "")) => format!("{endpoint}v1/traces"),
        Some(_) => endpoint.to_owned(),
    }
}

/// Returns the resource of the spans. `OTEL_RESOURCE_ATTRIBUTES` adds attributes.
pub(super) fn resource(role: &'static str) -> Resource {
    let instance = uuid::Uuid::now_v7().to_string();
    Resource::builder()
        .with_service_name(role)
        .with_attributes([
            KeyValue::new("service.namespace", "precis"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build()
}

/// HTTP client for the exporter, whose thread has no asynchronous runtime.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: Handle,
    /// Whether the last export failed. Only changes are logged.
    failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { send(client, request).await });
        let outcome = sent.await.map_err(HttpError::from).and_then(|outcome| outcome);
        self.note(match &outcome {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        });
        outcome
    }
}

impl Http {
    fn note(&self, failure: Option<String>) {
        let was_failing = self.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(error, "exporting spans failed; check telemetry.otlp_endpoint");
            }
            None if was_failing => tracing::info!("exporting spans works again"),
            _ => {}
        }
    }
}

async fn send(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let request = reqwest::Request::try_from(request)?;
    let response = client
        .execute(request)
        .await
        .map_err(reqwest::Error::without_url)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut answer = Response::new(response.bytes().await?);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endpoints_without_a_path_get_the_receivers_path() {
        for (given, used) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://host/otlp/v1/traces", "https://host/otlp/v1/traces"),
        ] {
            assert_eq!(address(given), used);
        }
    }
}
