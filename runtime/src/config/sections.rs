//! The sections of the configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use precis_schemas::job::JobLimits;
use precis_schemas::topology::TopologyLimits;
use precis_schemas::{GenerationParams, Lane};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::local::EngineChoice;
use super::secret::{Secret, ServerUrl};

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// `[nats]`: how to reach the message queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nats {
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

impl Default for Nats {
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
pub struct Queue {
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

impl Default for Queue {
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

impl Queue {
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
pub struct Limits {
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

impl Default for Limits {
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

impl Limits {
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
pub struct Api {
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

impl Default for Api {
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

/// Which model a worker loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ModelChoice {
    /// The one that is built in.
    Embedded,
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
    /// A repository of the hub, with a revision after `@` if not `main`.
    Hub {
        /// Such as `google/flan-t5-small`.
        id: String,
        /// Branch, tag or commit.
        revision: Option<String>,
    },
    /// None at all, `benchmark:no-op`: every text is answered at once with its first sentence. Only for benchmarks of
    /// what is around the engine; no folder and no repository can have that name by accident.
    NoOp,
}

const NO_OP: &str = "benchmark:no-op";

impl From<String> for ModelChoice {
    fn from(text: String) -> Self {
        let path = PathBuf::from(&text);
        if text == "embedded" {
            Self::Embedded
        } else if text == NO_OP {
            Self::NoOp
        } else if path.is_absolute() || text.starts_with('.') || text.starts_with('~') || path.is_dir() {
            Self::Folder(path)
        } else {
            match text.split_once('@') {
                Some((id, revision)) => Self::Hub {
                    id: id.into(),
                    revision: Some(revision.into()),
                },
                None => Self::Hub {
                    id: text,
                    revision: None,
                },
            }
        }
    }
}

impl From<ModelChoice> for String {
    fn from(choice: ModelChoice) -> Self {
        match choice {
            ModelChoice::Embedded => "embedded".into(),
            ModelChoice::NoOp => NO_OP.into(),
            ModelChoice::Folder(path) => path.display().to_string(),
            ModelChoice::Hub { id, revision: None } => id,
            ModelChoice::Hub {
                id,
                revision: Some(revision),
            } => format!("{id}@{revision}"),
        }
    }
}

/// Which texts a worker gives vectors of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingTexts {
    /// None.
    #[default]
    None,
    /// The text that is summarized.
    Document,
    /// The text and its summary.
    Both,
}

/// Reads texts from a list or, where only text can be given (environment, `--set`), from `one,other`.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        List(Vec<String>),
        Text(String),
    }
    let texts = match Given::deserialize(deserializer)? {
        Given::List(texts) => texts,
        Given::Text(text) => text
            .trim_matches(['[', ']'])
            .split(',')
            .map(|text| text.trim().trim_matches('"').to_owned())
            .filter(|text| !text.is_empty())
            .collect(),
    };
    Ok(texts)
}

/// Reads lanes from a list or from a text with commas, as [`texts`] does.
pub(super) fn lanes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Lane>, D::Error> {
    let named = |name: &String| {
        name.trim()
            .parse::<Lane>()
            .map_err(|error| D::Error::custom(format!("lanes: {error}")))
    };
    texts(deserializer)?.iter().map(named).collect()
}

/// Reads names from a list or, where only text can be given (environment, `--set`), from `one,two`.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        List(Vec<String>),
        Text(String),
    }
    let names = match Given::deserialize(deserializer)? {
        Given::List(names) => names,
        Given::Text(text) => text
            .trim_matches(['[', ']'])
            .split(',')
            .map(str::to_owned)
            .collect(),
    };
    let plain = names.iter().map(|name| name.trim().trim_matches('"'));
    Ok(plain.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// `[worker]`: those who run the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// Id in heartbeats and rows; by default made of the host name and a random part.
    pub id: Option<String>,
    /// `embedded`, a folder (absolute, or beginning with a dot), or a hub id with an optional `@revision`.
    pub model: ModelChoice,
    /// The files of a model folder are looked at this often, in seconds; when they have changed and are left alone, they are
    /// loaded, and get the jobs that come from then on. 0: only on SIGHUP, which does the same for a hub id.
    pub watch_model_seconds: u64,
    /// Name under which the model is served: the token in the subject of its jobs.
    pub serve_as: String,
    /// `cpu`, `cuda`, `metal` or `auto`.
    pub device: String,
    /// Threads of the engine; 0: one for each core.
    pub threads: usize,
    /// `f32` writes what transformers writes; `bf16` and `int8` are faster and nearly as good; `auto` is `f32` on a CPU,
    /// `bf16` on CUDA, `f16` on Metal.
    pub precision: String,
    /// Most jobs that are given to the engine at a time; it decodes them together.
    pub max_batch: usize,
    /// How long a pull waits for more jobs after the first, in milliseconds. A job joins those that are being decoded
    /// at any time, so that there is little to wait for.
    pub linger_ms: u64,
    /// Lanes to pull: a list, or a text with commas between (`high,normal`).
    #[serde(deserialize_with = "lanes")]
    pub lanes: Vec<Lane>,
    /// Which vectors a result carries, for drift and for Arize and Phoenix: `none`, `document` (free, the model has read
    /// it anyway) or `both` (the summary is read by the encoder for it).
    pub embeddings: EmbeddingTexts,
    /// A job whose worker gives no sign of life for this long is delivered to another, in seconds. All
    /// workers of a model should agree on it.
    pub ack_wait_seconds: u64,
    /// How long a stopping worker may take to finish what it has begun, in seconds.
    pub drain_seconds: u64,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    pub admin_listen: SocketAddr,
    /// Generation parameters of requests that leave them open.
    pub params: GenerationParams,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            id: None,
            model: ModelChoice::Embedded,
            watch_model_seconds: 0,
            serve_as: "default".into(),
            device: "auto".into(),
            threads: 0,
            max_batch: 16,
            linger_ms: 0,
            precision: "auto".into(),
            lanes: Lane::ALL.to_vec(),
            embeddings: EmbeddingTexts::None,
            ack_wait_seconds: 30,
            drain_seconds: 30,
            admin_listen: loopback(9021),
            params: GenerationParams::default(),
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
pub struct Telemetry {
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

impl Default for Telemetry {
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
pub struct Standalone {
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

impl Default for Standalone {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_folder_or_a_hub_id() {
        let choice = |text: &str| ModelChoice::from(text.to_owned());
        assert_eq!(choice("embedded"), ModelChoice::Embedded);
        assert_eq!(choice("benchmark:no-op"), ModelChoice::NoOp);
        assert_eq!(
            choice("./models/mine"),
            ModelChoice::Folder("./models/mine".into())
        );
        assert_eq!(
            choice("google/flan-t5-small"),
            ModelChoice::Hub {
                id: "google/flan-t5-small".into(),
                revision: None
            }
        );
        assert_eq!(String::from(choice("a/b@v2")), "a/b@v2");
    }
}
