//! `[arize]` and `[phoenix]`: forwarding of predictions.

use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};
use super::{ConfigError, Section, check};

choices! {
    /// Format of the predictions sent to Arize.
    #[derive(Default)]
    ArizeFormat {
        /// Traces over OTLP, as Arize's current SDK sends them.
        #[default]
        Traces = "traces",
        /// Records of a generative model, over the record interface of SDK 7.x.
        Records = "records",
        /// Both, each by its own sink.
        Both = "both",
    }
}

impl ArizeFormat {
    /// Reports whether traces are sent.
    pub fn has_traces(self) -> bool {
        self != Self::Records
    }

    /// Reports whether records are sent.
    pub fn has_records(self) -> bool {
        self != Self::Traces
    }
}

/// Forwarding to Arize AX. Off until `api_key` and `space_id` are set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct ArizeConfig {
    /// API key of the space.
    pub api_key: Option<Secret>,
    /// Id of the space.
    pub space_id: Option<Secret>,
    /// Format of the predictions: `traces`, `records` or `both`.
    pub send: ArizeFormat,
    /// URL for traces.
    pub otlp_endpoint: ServerUrl,
    /// Project of the traces.
    pub project: String,
    /// URL for records.
    pub log_endpoint: ServerUrl,
    /// Model id of the records.
    pub model_id: String,
    /// Model version of the records; defaults to the revision of the weights.
    pub model_version: Option<String>,
    /// Send texts, summaries and references, not only their measurements. Unset: only if `monitor.texts` is `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<bool>,
    /// Fraction of the jobs to forward, 0 to 1. A job overrides it with `send_to_arize`.
    pub sampling_rate: f64,
    /// Maximum number of predictions in one request, 1 to 1000.
    pub max_batch: usize,
    /// Time limit of one request, 1 to 600.
    pub timeout_seconds: u64,
    /// How long to pause after five consecutive failures, 1 to 600.
    pub circuit_open_seconds: u64,
}

impl Default for ArizeConfig {
    fn default() -> Self {
        Self {
            api_key: None,
            space_id: None,
            send: ArizeFormat::Traces,
            otlp_endpoint: ServerUrl::new("https://otlp.arize.com/v1/traces"),
            project: "precis".into(),
            log_endpoint: ServerUrl::new("https://api.arize.com/v1/log"),
            model_id: "precis".into(),
            model_version: None,
            texts: None,
            sampling_rate: 1.0,
            max_batch: 100,
            timeout_seconds: 30,
            circuit_open_seconds: 30,
        }
    }
}

/// Forwarding to a self-hosted Phoenix. Off until `url` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct PhoenixConfig {
    /// URL of the server, such as `http://127.0.0.1:6006`.
    pub url: Option<ServerUrl>,
    /// API key, if the server requires one.
    pub api_key: Option<Secret>,
    /// Project of the traces.
    pub project: String,
    /// Send texts, summaries and references, not only their measurements. Unset: only if `monitor.texts` is `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<bool>,
    /// Fraction of the jobs to forward, 0 to 1. A job overrides it with `send_to_arize`.
    pub sampling_rate: f64,
    /// Maximum number of predictions in one request, 1 to 1000.
    pub max_batch: usize,
    /// Time limit of one request, 1 to 600.
    pub timeout_seconds: u64,
    /// How long to pause after five consecutive failures, 1 to 600.
    pub circuit_open_seconds: u64,
}

impl Default for PhoenixConfig {
    fn default() -> Self {
        Self {
            url: None,
            api_key: None,
            project: "precis".into(),
            texts: None,
            sampling_rate: 1.0,
            max_batch: 100,
            timeout_seconds: 30,
            circuit_open_seconds: 30,
        }
    }
}

impl Section for ArizeConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let has = |secret: &Option<Secret>| secret.as_ref().is_some_and(|text| !text.expose().is_empty());
        let missing = if has(&self.api_key) {
            "arize.space_id"
        } else {
            "arize.api_key"
        };
        check::require(
            has(&self.api_key) == has(&self.space_id),
            missing,
            "must be set: api_key and space_id belong together",
        )?;
        check::http_url("arize.otlp_endpoint", Some(&self.otlp_endpoint))?;
        check::http_url("arize.log_endpoint", Some(&self.log_endpoint))?;
        check::within("arize.sampling_rate", self.sampling_rate, 0.0..=1.0)?;
        check::within("arize.max_batch", self.max_batch, 1..=1_000)?;
        check::within("arize.timeout_seconds", self.timeout_seconds, 1..=600)?;
        check::within("arize.circuit_open_seconds", self.circuit_open_seconds, 1..=600)?;
        check::not_blank("arize.project", &self.project)?;
        check::not_blank("arize.model_id", &self.model_id)?;
        check::header_value("arize.api_key", self.api_key.as_ref())?;
        check::header_value("arize.space_id", self.space_id.as_ref())
    }
}

impl Section for PhoenixConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::http_url("phoenix.url", self.url.as_ref())?;
        check::within("phoenix.sampling_rate", self.sampling_rate, 0.0..=1.0)?;
        check::within("phoenix.max_batch", self.max_batch, 1..=1_000)?;
        check::within("phoenix.timeout_seconds", self.timeout_seconds, 1..=600)?;
        check::within("phoenix.circuit_open_seconds", self.circuit_open_seconds, 1..=600)?;
        check::not_blank("phoenix.project", &self.project)?;
        check::header_value("phoenix.api_key", self.api_key.as_ref())
    }
}

impl ArizeConfig {
    /// Returns the API key and the space if both are set, which turns forwarding on.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let key = self.api_key.as_ref()?.expose();
        let space = self.space_id.as_ref()?.expose();
        (!key.is_empty() && !space.is_empty()).then_some((key, space))
    }
}
