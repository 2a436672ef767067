//! `[telemetry]`: logs and traces of Precis itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};
use super::{ConfigError, Section, check};

choices! {
    /// Format of log lines.
    LogFormat {
        /// Plain text.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

/// Logs and traces of Precis itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Log filter in the syntax of `RUST_LOG`, such as `info,precis_worker=debug`.
    pub log: String,
    /// Format of log lines: `text`, or `json` (one object per line, with `trace_id` at the top level).
    pub format: LogFormat,
    /// OpenTelemetry collector (OTLP over HTTP, protobuf), such as `http://127.0.0.1:4318`. `/v1/traces` is appended to
    /// a URL without a path. Unset: no spans.
    pub otlp_endpoint: Option<ServerUrl>,
    /// Headers of the requests to the collector, such as an API key.
    pub otlp_headers: BTreeMap<String, Secret>,
    /// Fraction of the traces that start here to record, 0 to 1. A client's trace keeps the client's decision.
    pub trace_sampling_rate: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log: "info,async_nats=warn".into(),
            format: LogFormat::Text,
            otlp_endpoint: None,
            otlp_headers: BTreeMap::new(),
            trace_sampling_rate: 1.0,
        }
    }
}

impl Section for TelemetryConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::within(
            "telemetry.trace_sampling_rate",
            self.trace_sampling_rate,
            0.0..=1.0,
        )?;
        check::http_url("telemetry.otlp_endpoint", self.otlp_endpoint.as_ref())
    }
}
