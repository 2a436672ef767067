//! `[standalone]`: `precis up`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Section;

/// `precis up`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct StandaloneConfig {
    /// Directory for the data of NATS and ClickHouse and the logs of all processes.
    pub data_dir: PathBuf,
    /// Directory for downloaded servers.
    pub local_dir: PathBuf,
    /// Never download anything.
    pub offline: bool,
    /// A nats-server binary to run instead of the one on `PATH` or a downloaded one.
    pub nats_server: Option<PathBuf>,
    /// A ClickHouse engine library (`libchdb.so`) or server binary to run instead of a downloaded one.
    pub clickhouse: Option<PathBuf>,
    /// Start NATS. Set it to false to use the server at `nats.url`.
    pub start_nats: bool,
    /// Address on which the started NATS server listens; by default the one in `nats.url`. Workers on other machines need
    /// one that they can reach, such as `0.0.0.0:4222`. That requires `nats.user` and `nats.password`, or `nats.token`.
    #[serde(deserialize_with = "super::values::optional_address")]
    pub nats_listen: Option<SocketAddr>,
    /// Port on 127.0.0.1 for the monitoring endpoints of the started NATS server (`/varz`, `/connz`, `/jsz`). Unset:
    /// none.
    pub nats_monitor_port: Option<u16>,
    /// Start ClickHouse. Set it to false to use the server at `clickhouse.url`.
    pub start_clickhouse: bool,
    /// Start a monitor.
    pub start_monitor: bool,
    /// Number of workers to start.
    pub workers: usize,
    /// Memory limit of the embedded ClickHouse engine.
    pub clickhouse_max_memory_bytes: u64,
}

impl Default for StandaloneConfig {
    fn default() -> Self {
        Self {
            data_dir: ".local/data".into(),
            local_dir: ".local".into(),
            offline: false,
            nats_server: None,
            clickhouse: None,
            start_nats: true,
            nats_listen: None,
            nats_monitor_port: None,
            start_clickhouse: true,
            start_monitor: true,
            workers: 1,
            clickhouse_max_memory_bytes: 2 << 30,
        }
    }
}

impl Section for StandaloneConfig {}
