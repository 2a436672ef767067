//! The sections of what measures predictions, and where it keeps them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};
use super::sections::loopback;
use super::{Config, ConfigError};

/// What is kept of texts, summaries and references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPolicy {
    /// All of them.
    Full,
    /// The beginning: `monitor.text_chars` characters.
    Truncated,
    /// Their SHA-256, so that equal texts can be found and none can be read.
    Hash,
    /// Nothing.
    None,
}

/// `[monitor]`: what measures and keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorConfig {
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Most rows in one insert, which also holds no more than 8 MiB of results, or two of the largest that NATS takes.
    pub max_block_rows: usize,
    /// Longest that a row waits for others before the insert, in milliseconds.
    pub max_block_wait_ms: u64,
    /// A result whose monitor gives no sign of life for this long is delivered to another (or to the same after a
    /// restart), in seconds. An insert is given up after half of it, so that the two can't overlap.
    pub ack_wait_seconds: u64,
    /// What is kept of texts, summaries and references: `full`, `truncated`, `hash` or `none`. Scores are computed
    /// before, of whole texts.
    pub texts: TextPolicy,
    /// Most characters of a text under `truncated`.
    pub text_chars: usize,
    /// Jobs for a model that no worker has ever served are answered `failed` after this many seconds.
    pub unserved_grace_seconds: u64,
    /// Jobs for a model whose workers are all gone are answered `failed` after this many seconds without
    /// one. Their deadlines are kept meanwhile.
    pub absent_grace_seconds: u64,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            listen: loopback(9020),
            max_block_rows: 2_000,
            max_block_wait_ms: 500,
            ack_wait_seconds: 60,
            texts: TextPolicy::Full,
            text_chars: 1_000,
            unserved_grace_seconds: 60,
            absent_grace_seconds: 86_400,
        }
    }
}

/// `[clickhouse]`: the analytics database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickHouseConfig {
    /// HTTP interface.
    pub url: ServerUrl,
    /// Database; created if it is missing. Not `default`.
    pub database: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Option<Secret>,
    /// Days after which ClickHouse forgets texts, summaries, references and embeddings. A reference can't be scored
    /// after that. 1 to 3650.
    pub text_ttl_days: u32,
    /// Days after which ClickHouse forgets predictions, and figures by hour. At least `text_ttl_days`.
    pub row_ttl_days: u32,
    /// Longest that a query of `/v1/analytics` may take, in seconds.
    pub query_timeout_seconds: u64,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: ServerUrl::new("http://127.0.0.1:8123"),
            database: "precis".into(),
            user: "default".into(),
            password: None,
            text_ttl_days: 30,
            row_ttl_days: 400,
            query_timeout_seconds: 30,
        }
    }
}

/// Checks what types alone don't.
pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    let Config {
        monitor, clickhouse, ..
    } = config;
    let rules = [
        (
            (4..=3_600).contains(&monitor.ack_wait_seconds),
            "monitor.ack_wait_seconds",
            "must be 4 to 3600",
        ),
        (monitor.text_chars > 0, "monitor.text_chars", "must be above 0"),
        (
            (1..=3_650).contains(&clickhouse.text_ttl_days),
            "clickhouse.text_ttl_days",
            "must be 1 to 3650",
        ),
        (
            (clickhouse.text_ttl_days..=36_500).contains(&clickhouse.row_ttl_days),
            "clickhouse.row_ttl_days",
            "must be at least clickhouse.text_ttl_days, and at most 36500",
        ),
        (
            (1..=600).contains(&clickhouse.query_timeout_seconds),
            "clickhouse.query_timeout_seconds",
            "must be 1 to 600",
        ),
    ];
    match rules.into_iter().find(|(holds, _, _)| !holds) {
        None => Ok(()),
        Some((_, key, problem)) => Err(ConfigError::Invalid {
            key,
            problem: problem.to_owned(),
        }),
    }
}
