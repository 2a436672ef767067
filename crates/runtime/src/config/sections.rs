//! The sections of the configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use precis_schemas::job::JobLimits;
use precis_schemas::topology::TopologyLimits;
use serde::{Deserialize, Serialize};

use super::lists::names;
use super::local::EngineChoice;
use super::secret::{Secret, ServerUrl};

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// `[nats]`: how to reach the message queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// Server, or several separated by commas.
    pub url: ServerUrl,
    /// User name, with `password`.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// Token, instead of user and password.
    pub token: Option<Secret>,
    /// Credentials file (JWT and seed), instead of user and password.
    pub credentials_file: Option<PathBuf>,
    /// Copies of each stream in a cluster, 1 to 5.
    pub replicas: usize,
    /// Create and change streams and consumers. Where only an administrator may do that, set it to
    /// false: they are then only checked.
    pub manage_topology: bool,
    /// How long a starting process waits for the server, in seconds.
    pub connect_timeout_seconds: u64,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            url: ServerUrl::new("nats://127.0.0.1:4222"),
            user: None,
            password: None,
            token: None,
            credentials_file: None,
            replicas: 1,
            manage_topology: true,
            connect_timeout_seconds: 30,
        }
    }
}

/// `[queue]`: limits of the streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Most jobs that wait; beyond, a request is refused with `queue_full`.
    pub max_jobs: u64,
    /// Most bytes that wait.
    pub max_bytes: u64,
    /// How long a result can be fetched, in hours.
    pub result_ttl_hours: u64,
    /// Most bytes of results.
    pub max_result_bytes: u64,
    /// How long a dead letter is kept, in days.
    pub dead_letter_ttl_days: u64,
    /// Most bytes of what is remembered of requests for 24 hours (idempotency keys, batches of scores); beyond, the oldest
    /// is forgotten before its time.
    pub max_call_bytes: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        let limits = TopologyLimits::default();
        Self {
            max_jobs: limits.max_queued_jobs,
            max_bytes: limits.max_queue_bytes,
            result_ttl_hours: limits.result_ttl.as_secs() / 3600,
            max_result_bytes: limits.max_result_bytes,
            dead_letter_ttl_days: limits.dead_letter_ttl.as_secs() / 86_400,
            max_call_bytes: limits.max_call_bytes,
        }
    }
}

impl QueueConfig {
    /// The limits as the topology wants them.
    pub fn topology_limits(&self) -> TopologyLimits {
        TopologyLimits {
            max_queued_jobs: self.max_jobs,
            max_queue_bytes: self.max_bytes,
            result_ttl: Duration::from_secs(self.result_ttl_hours * 3600),
            max_result_bytes: self.max_result_bytes,
            dead_letter_ttl: Duration::from_secs(self.dead_letter_ttl_days * 86_400),
            max_call_bytes: self.max_call_bytes,
        }
    }
}

/// `[limits]`: what one request may carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Longest text, in characters.
    pub max_text_chars: usize,
    /// Longest reference, in characters.
    pub max_reference_chars: usize,
    /// Largest HTTP body, in bytes.
    pub max_body_bytes: usize,
    /// Longest that a client may wait for a result in one request, in seconds.
    pub max_wait_seconds: u64,
    /// Most articles in one call of `/article/summarize_batch`.
    pub max_batch_texts: usize,
    /// Most entries of `metadata`.
    pub max_metadata_entries: usize,
    /// Longest key or value of `metadata`, in bytes.
    pub max_metadata_bytes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let job = JobLimits::default();
        Self {
            max_text_chars: job.max_text_chars,
            max_reference_chars: job.max_reference_chars,
            max_body_bytes: 1 << 20,
            max_wait_seconds: 120,
            max_batch_texts: 64,
            max_metadata_entries: job.max_metadata_entries,
            max_metadata_bytes: job.max_metadata_bytes,
        }
    }
}

impl LimitsConfig {
    /// More bytes than any row of a batch has that is not too long: four for each character of its texts, six where
    /// JSON escapes it, and room for the rest.
    pub fn max_row_bytes(&self) -> usize {
        6 * (self.max_text_chars + self.max_reference_chars) + (64 << 10)
    }

    /// The limits of a job.
    pub fn job(&self) -> JobLimits {
        JobLimits {
            max_text_chars: self.max_text_chars,
            max_reference_chars: self.max_reference_chars,
            max_metadata_entries: self.max_metadata_entries,
            max_metadata_bytes: self.max_metadata_bytes,
        }
    }
}

/// `[api]`: the REST gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Name under which the model of requests without `model` is served.
    pub default_model: String,
    /// Deadline of a request that brings none, in seconds from its arrival.
    pub default_ttl_seconds: u64,
    /// How long the routes that answer with the summary itself (`/article/…`) wait, in seconds.
    pub sync_wait_seconds: u64,
    /// Names of SageMaker endpoints (`/endpoints/{name}/invocations`) that are answered: a list, or a text with commas
    /// between. Empty: any name.
    #[serde(deserialize_with = "names")]
    pub endpoints: Vec<String>,
    /// What does the work: `queue` (workers behind NATS), or `local` (the model in this process, without NATS; see
    /// `[local]`).
    pub engine: EngineChoice,
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
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`: logs and traces of the product itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Filter as in `RUST_LOG`, such as `info,precis_worker=debug`.
    pub log: String,
    /// How log lines look: `text`, or `json`, one object a line with `trace_id` at the top.
    pub format: LogFormat,
    /// Collector of OpenTelemetry traces (OTLP over HTTP, protobuf), such as `http://127.0.0.1:4318`: to a base
    /// `/v1/traces` is added. Without it no spans are made.
    pub otlp_endpoint: Option<ServerUrl>,
    /// Headers of the requests to it, such as a key.
    pub otlp_headers: BTreeMap<String, Secret>,
    /// Share of the traces that begin here which is recorded, 0 to 1. One that a client brings keeps the client's choice.
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

/// `[standalone]`: `precis up`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StandaloneConfig {
    /// Where NATS and ClickHouse keep their data, and the logs of all processes.
    pub data_dir: PathBuf,
    /// Where fetched servers are kept.
    pub local_dir: PathBuf,
    /// Never fetch anything.
    pub offline: bool,
    /// A nats-server to use instead of the one on the path or a fetched one.
    pub nats_server: Option<PathBuf>,
    /// A ClickHouse engine library (`libchdb.so`) or server binary to use instead.
    pub clickhouse: Option<PathBuf>,
    /// Start NATS; false: use `nats.url` as it is.
    pub start_nats: bool,
    /// Port of 127.0.0.1 on which the NATS that is started shows what it does (`/varz`, `/connz`, `/jsz`); none: nowhere.
    pub nats_monitor_port: Option<u16>,
    /// Start ClickHouse; false: use `clickhouse.url` as it is.
    pub start_clickhouse: bool,
    /// Start a monitor; false: one runs elsewhere.
    pub start_monitor: bool,
    /// Workers to start.
    pub workers: usize,
    /// Memory limit of the embedded ClickHouse engine, in bytes.
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
            nats_monitor_port: None,
            start_clickhouse: true,
            start_monitor: true,
            workers: 1,
            clickhouse_max_memory_bytes: 2 << 30,
        }
    }
}
