//! `[batches]`: how much an upload may bring, and how long it may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[batches]`: how much an upload may bring, and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchesConfig {
    /// Largest upload, in bytes. It is never held in memory as a whole.
    pub max_upload_bytes: u64,
    /// Most rows of a batch.
    pub max_rows: u64,
    /// How long an upload may pause, in seconds.
    pub idle_timeout_seconds: u64,
    /// How long an upload may take in all, in seconds.
    pub upload_timeout_seconds: u64,
    /// How long an upload waits for room in a full queue, or in its key's share of it, in seconds.
    pub queue_patience_seconds: u64,
    /// Deadline of the rows of a batch that brings none, in seconds from its arrival. At most as long as results are
    /// kept (`queue.result_ttl_hours`).
    pub default_ttl_seconds: u64,
}

impl Default for BatchesConfig {
    fn default() -> Self {
        Self {
            max_upload_bytes: 256 << 20,
            max_rows: 50_000,
            idle_timeout_seconds: 30,
            upload_timeout_seconds: 3_600,
            queue_patience_seconds: 60,
            default_ttl_seconds: 12 * 3_600,
        }
    }
}

impl BatchesConfig {
    /// How long an upload may pause.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds)
    }

    /// How long an upload may take in all.
    pub fn upload_timeout(&self) -> Duration {
        Duration::from_secs(self.upload_timeout_seconds)
    }

    /// How long an upload waits for room in the queue.
    pub fn queue_patience(&self) -> Duration {
        Duration::from_secs(self.queue_patience_seconds)
    }

    /// Checks what types alone don't; results are kept for `result_ttl_seconds`.
    pub(super) fn validate(&self, result_ttl_seconds: u64) -> Result<(), ConfigError> {
        let seconds = |value: u64| (1..=86_400).contains(&value);
        let checks = [
            (
                "batches.max_upload_bytes",
                self.max_upload_bytes > 0,
                "must be above 0",
            ),
            (
                "batches.max_rows",
                (1..=1_000_000).contains(&self.max_rows),
                "must be 1 to 1000000",
            ),
            (
                "batches.idle_timeout_seconds",
                seconds(self.idle_timeout_seconds),
                "must be 1 to 86400",
            ),
            (
                "batches.upload_timeout_seconds",
                seconds(self.upload_timeout_seconds),
                "must be 1 to 86400",
            ),
            (
                "batches.default_ttl_seconds",
                (1..=result_ttl_seconds).contains(&self.default_ttl_seconds),
                "must be above 0, and not more than queue.result_ttl_hours",
            ),
        ];
        match checks.into_iter().find(|(_, fine, _)| !fine) {
            Some((key, _, problem)) => Err(ConfigError::Invalid {
                key,
                problem: problem.to_owned(),
            }),
            None => Ok(()),
        }
    }
}
