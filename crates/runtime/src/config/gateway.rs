//! `[api]` and `[local]`: the gateway, with and without a queue.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::lists::names;
use super::secret::{Secret, ServerUrl};
use super::{ConfigError, Section, check, loopback};

choices! {
    /// Where the gateway's jobs run.
    EngineChoice {
        /// On workers behind NATS.
        Queue = "queue",
        /// In the gateway's own process, configured by `[worker]`.
        Local = "local",
    }
}

/// The REST gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address of the HTTP server.
    #[serde(deserialize_with = "super::values::address")]
    pub listen: SocketAddr,
    /// Model of requests without `model`.
    pub default_model: String,
    /// Deadline of requests that set none, counted from their arrival.
    pub default_ttl_seconds: u64,
    /// How long the synchronous routes (`/article/…`) wait for the summary.
    pub sync_wait_seconds: u64,
    /// Names of the SageMaker endpoints (`/endpoints/{name}/invocations`) to serve: a list, or a string with commas.
    /// Empty: any name.
    #[serde(deserialize_with = "names")]
    pub endpoints: Vec<String>,
    /// Where jobs run: `queue` (on workers behind NATS) or `local` (in this process, without NATS; see `[local]`).
    pub engine: EngineChoice,
    /// Directory of the console's libraries. Unset: `console` in `standalone.local_dir`, where `precis up` and
    /// `precis install` put them.
    pub console_libraries: Option<PathBuf>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8000),
            default_model: "default".into(),
            default_ttl_seconds: 3600,
            sync_wait_seconds: 60,
            endpoints: Vec::new(),
            engine: EngineChoice::Queue,
            console_libraries: None,
        }
    }
}

impl Section for ApiConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::positive("api.default_ttl_seconds", self.default_ttl_seconds)?;
        check::not_blank("api.default_model", &self.default_model)
    }
}

/// The gateway with `api.engine = "local"`. Jobs and results live in its memory and end with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Maximum number of queued jobs. Requests beyond it are refused with `queue_full`.
    pub max_jobs: usize,
    /// Maximum number of stored results. The oldest are dropped first.
    pub max_results: usize,
    /// How long a result can be fetched, 1 to 31536000.
    pub result_ttl_seconds: u64,
    /// A monitor, such as `http://monitor:9020`. The gateway posts every summary to its `POST /log/online`. Unset: only
    /// metrics and the log record it.
    pub monitor_url: Option<ServerUrl>,
    /// API key for that monitor.
    pub monitor_key: Option<Secret>,
    /// Ask that monitor to forward the summaries to Arize.
    pub send_arize: bool,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            max_jobs: 1_000,
            max_results: 10_000,
            result_ttl_seconds: 3_600,
            monitor_url: None,
            monitor_key: None,
            send_arize: false,
        }
    }
}

impl Section for LocalConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::positive("local.max_jobs", self.max_jobs)?;
        check::positive("local.max_results", self.max_results)?;
        check::within(
            "local.result_ttl_seconds",
            self.result_ttl_seconds,
            1..=31_536_000,
        )
    }
}
