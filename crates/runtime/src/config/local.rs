//! The gateway with the model in its own process.

use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};

/// What does the gateway's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// Workers, behind NATS.
    Queue,
    /// The model in the process, set up by `[worker]`.
    Local,
}

/// `[local]`: the gateway with `api.engine = "local"`. Jobs and results are in its memory and end with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Most jobs that wait; beyond, a request is refused with `queue_full`.
    pub max_jobs: usize,
    /// Most results that are kept; the oldest go first.
    pub max_results: usize,
    /// How long a result can be fetched, in seconds.
    pub result_ttl_seconds: u64,
    /// A monitor that is told of every summary, such as `http://monitor:9020`, by its `POST /log/online`; none: only
    /// metrics and the log.
    pub monitor_url: Option<ServerUrl>,
    /// Key for that monitor, where it wants one.
    pub monitor_key: Option<Secret>,
    /// Ask that monitor to send what it is told to Arize.
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
