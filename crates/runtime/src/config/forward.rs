//! Sections of the products that predictions are forwarded to.

use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};

/// In which form predictions go to Arize.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArizeFormat {
    /// As traces, over OTLP: what Arize's present SDK asks for.
    #[default]
    Traces,
    /// As records of a generative model, over the record interface of the SDK 7.x.
    Records,
    /// Both, each by a sink of its own.
    Both,
}

impl ArizeFormat {
    /// Whether traces are sent.
    pub fn has_traces(self) -> bool {
        self != Self::Records
    }

    /// Whether records are sent.
    pub fn has_records(self) -> bool {
        self != Self::Traces
    }
}

/// `[arize]`: Arize AX. Off until it has a key and a space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArizeConfig {
    /// Key of the space.
    pub api_key: Option<Secret>,
    /// Id of the space.
    pub space_id: Option<Secret>,
    /// In which form predictions are sent: `traces`, `records` or `both`.
    pub send: ArizeFormat,
    /// Where traces go.
    pub otlp_endpoint: ServerUrl,
    /// Project of the traces.
    pub project: String,
    /// Where records go.
    pub log_endpoint: ServerUrl,
    /// Model of the records.
    pub model_id: String,
    /// Its version; without one the revision of the weights is sent.
    pub model_version: Option<String>,
    /// Whether texts, summaries and references are sent, or only what is measured of them. Without it they are where
    /// `monitor.texts` is `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<bool>,
    /// Share of the jobs that is forwarded, 0 to 1; a job may insist or forbid with `send_to_arize`.
    pub sampling_rate: f64,
    /// Most predictions in one request.
    pub max_batch: usize,
    /// Longest that a request may take, in seconds.
    pub timeout_seconds: u64,
    /// How long Arize is left alone after it has failed five times in a row, in seconds.
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

/// `[phoenix]`: Phoenix, which one runs oneself. Off until it has a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhoenixConfig {
    /// Address of the server, such as `http://127.0.0.1:6006`.
    pub url: Option<ServerUrl>,
    /// Key, where the server wants one.
    pub api_key: Option<Secret>,
    /// Project of the traces.
    pub project: String,
    /// Whether texts, summaries and references are sent, or only what is measured of them. Without it they are where
    /// `monitor.texts` is `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<bool>,
    /// Share of the jobs that is forwarded, 0 to 1; a job may insist or forbid with `send_to_arize`.
    pub sampling_rate: f64,
    /// Most predictions in one request.
    pub max_batch: usize,
    /// Longest that a request may take, in seconds.
    pub timeout_seconds: u64,
    /// How long Phoenix is left alone after it has failed five times in a row, in seconds.
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

/// What is wrong with these sections: the key and the problem.
pub(super) fn mistake(arize: &ArizeConfig, phoenix: &PhoenixConfig) -> Option<(&'static str, String)> {
    let given = |secret: &Option<Secret>| secret.as_ref().is_some_and(|text| !text.expose().is_empty());
    if given(&arize.api_key) != given(&arize.space_id) {
        let missing = if given(&arize.api_key) {
            "arize.space_id"
        } else {
            "arize.api_key"
        };
        return Some((missing, "api_key and space_id belong together".into()));
    }
    for (key, url) in [
        ("arize.otlp_endpoint", Some(&arize.otlp_endpoint)),
        ("arize.log_endpoint", Some(&arize.log_endpoint)),
        ("phoenix.url", phoenix.url.as_ref()),
    ] {
        let is_http = |url: &ServerUrl| {
            ["http://", "https://"]
                .iter()
                .any(|s| url.expose().starts_with(s))
        };
        if url.is_some_and(|url| !is_http(url)) {
            return Some((key, "must begin with http:// or https://".into()));
        }
    }
    for (key, rate) in [
        ("arize.sampling_rate", arize.sampling_rate),
        ("phoenix.sampling_rate", phoenix.sampling_rate),
    ] {
        if !(0.0..=1.0).contains(&rate) {
            return Some((key, "must be 0 to 1".into()));
        }
    }
    for (key, most) in [
        ("arize.max_batch", arize.max_batch),
        ("phoenix.max_batch", phoenix.max_batch),
    ] {
        if !(1..=1_000).contains(&most) {
            return Some((key, "must be 1 to 1000".into()));
        }
    }
    for (key, seconds) in [
        ("arize.timeout_seconds", arize.timeout_seconds),
        ("phoenix.timeout_seconds", phoenix.timeout_seconds),
        ("arize.circuit_open_seconds", arize.circuit_open_seconds),
        ("phoenix.circuit_open_seconds", phoenix.circuit_open_seconds),
    ] {
        if !(1..=600).contains(&seconds) {
            return Some((key, "must be 1 to 600".into()));
        }
    }
    for (key, name) in [
        ("arize.project", &arize.project),
        ("arize.model_id", &arize.model_id),
        ("phoenix.project", &phoenix.project),
    ] {
        if name.trim().is_empty() {
            return Some((key, "must not be empty".into()));
        }
    }
    // What goes into a header must be one line of visible characters.
    for (key, secret) in [
        ("arize.api_key", &arize.api_key),
        ("arize.space_id", &arize.space_id),
        ("phoenix.api_key", &phoenix.api_key),
    ] {
        let visible = |secret: &Secret| secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
        if secret.as_ref().is_some_and(|secret| !visible(secret)) {
            return Some((key, "must be visible ASCII characters without spaces".into()));
        }
    }
    None
}

impl ArizeConfig {
    /// Key and space, when both are there: then Arize is on.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let key = self.api_key.as_ref()?.expose();
        let space = self.space_id.as_ref()?.expose();
        (!key.is_empty() && !space.is_empty()).then_some((key, space))
    }
}
