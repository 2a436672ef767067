//! `[monitor]` and `[clickhouse]`: measurement and storage of predictions.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};
use super::{ConfigError, Section, check, loopback};

choices! {
    /// How texts, summaries and references are stored.
    TextPolicy {
        /// In full.
        Full = "full",
        /// The first `monitor.text_chars` characters.
        Truncated = "truncated",
        /// Their SHA-256: equal texts can be found, but not read.
        Hash = "hash",
        /// Not at all.
        None = "none",
    }
}

/// The monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct MonitorConfig {
    /// Address of the HTTP server.
    #[serde(deserialize_with = "super::values::address")]
    pub listen: SocketAddr,
    /// Maximum number of rows in one insert, 1 to 100000. An insert also holds at most 8 MiB of results, or two
    /// messages of the maximum size that NATS accepts.
    pub max_block_rows: usize,
    /// Maximum time that a row waits for others before the insert.
    pub max_block_wait_ms: u64,
    /// Results that a monitor has not acknowledged after this time are redelivered, 4 to 3600. An insert is abandoned
    /// after half of it, so that the two can't overlap.
    pub ack_wait_seconds: u64,
    /// How texts, summaries and references are stored: `full`, `truncated`, `hash` or `none`. Scores always use the
    /// full texts.
    pub texts: TextPolicy,
    /// Length of stored texts under `truncated`.
    pub text_chars: usize,
    /// Jobs for a model that no worker ever served fail after this time.
    pub unserved_grace_seconds: u64,
    /// Jobs for a model whose workers are all gone fail after this time. Deadlines still apply.
    pub absent_grace_seconds: u64,
    /// Input tokens per second that one worker is assumed to read, for `precis_queue_work_seconds`, until a worker of the
    /// model has measured its pace.
    pub assumed_tokens_per_second: f64,
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
            assumed_tokens_per_second: 1_000.0,
        }
    }
}

/// The analytics database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct ClickHouseConfig {
    /// URL of the HTTP interface.
    pub url: ServerUrl,
    /// Database, created if missing. Must not be `default`.
    pub database: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Option<Secret>,
    /// Retention of texts, summaries, references and embeddings, 1 to 3650. Late references after that can't be scored.
    pub text_ttl_days: u32,
    /// Retention of predictions and hourly rollups. At least `text_ttl_days`, at most 36500.
    pub row_ttl_days: u32,
    /// Time limit of a query of `/v1/analytics`, 1 to 600.
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

impl Section for MonitorConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::within("monitor.max_block_rows", self.max_block_rows, 1..=100_000)?;
        check::within("monitor.ack_wait_seconds", self.ack_wait_seconds, 4..=3_600)?;
        check::positive(
            "monitor.assumed_tokens_per_second",
            self.assumed_tokens_per_second,
        )?;
        check::positive("monitor.text_chars", self.text_chars)
    }
}

impl Section for ClickHouseConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let is_plain = self
            .database
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        check::require(
            is_plain && !self.database.is_empty() && self.database != "default",
            "clickhouse.database",
            "must be a plain name (letters, digits, _) other than `default`",
        )?;
        check::connectable("clickhouse.url", &self.url)?;
        check::within("clickhouse.text_ttl_days", self.text_ttl_days, 1..=3_650)?;
        check::require(
            (self.text_ttl_days..=36_500).contains(&self.row_ttl_days),
            "clickhouse.row_ttl_days",
            "must be at least clickhouse.text_ttl_days, and at most 36500",
        )?;
        check::within(
            "clickhouse.query_timeout_seconds",
            self.query_timeout_seconds,
            1..=600,
        )
    }
}
