//! `[batches]`: limits of uploads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Section, check};

/// Limits of uploads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct BatchesConfig {
    /// Maximum size of an upload. Uploads are streamed, never held in memory as a whole.
    pub max_upload_bytes: u64,
    /// Maximum number of rows in a batch, 1 to 1000000.
    pub max_rows: u64,
    /// How long an upload may pause, 1 to 86400.
    pub idle_timeout_seconds: u64,
    /// Maximum duration of an upload, 1 to 86400.
    pub upload_timeout_seconds: u64,
    /// How long an upload waits for a full queue, or for its key's quota.
    pub queue_patience_seconds: u64,
    /// Deadline of the rows of a batch that sets none, counted from its arrival. At most `queue.result_ttl_hours`.
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
    /// Returns how long an upload may pause.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds)
    }

    /// Returns the maximum duration of an upload.
    pub fn upload_timeout(&self) -> Duration {
        Duration::from_secs(self.upload_timeout_seconds)
    }

    /// Returns how long an upload waits for a full queue.
    pub fn queue_patience(&self) -> Duration {
        Duration::from_secs(self.queue_patience_seconds)
    }
}

impl Section for BatchesConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let day = 1..=86_400;
        check::positive("batches.max_upload_bytes", self.max_upload_bytes)?;
        check::within("batches.max_rows", self.max_rows, 1..=1_000_000)?;
        check::within(
            "batches.idle_timeout_seconds",
            self.idle_timeout_seconds,
            day.clone(),
        )?;
        check::within("batches.upload_timeout_seconds", self.upload_timeout_seconds, day)?;
        check::positive("batches.default_ttl_seconds", self.default_ttl_seconds)
    }
}
