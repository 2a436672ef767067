//! `[nats]`, `[queue]` and `[limits]`: the message queue and the size of requests.

use std::path::PathBuf;
use std::time::Duration;

use precis_schemas::Lane;
use precis_schemas::job::JobLimits;
use precis_schemas::topology::TopologyLimits;
use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};
use super::{ConfigError, Section, check};

/// The connection to the message queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// URL of the server. Separate several servers with commas.
    pub url: ServerUrl,
    /// User name. Requires `password`.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// Token, as an alternative to `user` and `password`.
    pub token: Option<Secret>,
    /// Credentials file with a JWT and a seed, as an alternative to `user` and `password`.
    pub credentials_file: Option<PathBuf>,
    /// Replicas of each stream in a cluster, 1 to 5.
    pub replicas: usize,
    /// Create and update streams and consumers. Set it to false if only an administrator may do that: Precis then only
    /// checks them.
    pub manage_topology: bool,
    /// How long a starting process waits for the server.
    pub connect_timeout_seconds: u64,
}

impl NatsConfig {
    /// Reports whether a user with a password, or a token, is set.
    pub(super) fn has_login(&self) -> bool {
        self.token.is_some() || (self.user.is_some() && self.password.is_some())
    }
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

impl Section for NatsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::connectable("nats.url", &self.url)?;
        check::within("nats.replicas", self.replicas, 1..=5)
    }
}

/// Limits of the streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Maximum number of queued jobs. Requests beyond it are refused with `queue_full`.
    pub max_jobs: u64,
    /// Maximum size of all queued jobs. Requests beyond it are refused with `queue_full`.
    pub max_bytes: u64,
    /// Share of `max_jobs` and `max_bytes` up to which gateways accept jobs in the lane `normal`, above 0 and at most 1.
    /// The rest is kept for the lane `high`.
    pub normal_share: f64,
    /// Share of `max_jobs` and `max_bytes` up to which gateways accept jobs in the lane `bulk` and rows of uploads. The
    /// rest is kept for interactive jobs.
    pub bulk_share: f64,
    /// Share of `max_jobs` that the jobs of one tenant may take in each lane, per model and task. More are refused with
    /// `quota_exceeded`. NATS enforces it, also for clients that publish to it directly. If it exceeds
    /// `bulk_share`, uploads stop first, and interactive jobs of the same lane still fit.
    pub tenant_share: f64,
    /// How long a result can be fetched, 1 to 8760.
    pub result_ttl_hours: u64,
    /// Maximum size of all results, without their texts. The oldest results are dropped first.
    pub max_result_bytes: u64,
    /// Maximum size of the texts of all results, compressed. They are kept for an hour longer than results. Beyond this
    /// size, the oldest are dropped earlier.
    pub max_text_bytes: u64,
    /// How long a dead letter is kept, 1 to 3650.
    pub dead_letter_ttl_days: u64,
    /// Maximum size of the records of requests (idempotency keys, score batches). Records are kept for 24 hours. Beyond
    /// this size, the oldest are dropped earlier.
    pub max_call_bytes: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        let limits = TopologyLimits::default();
        Self {
            max_jobs: limits.max_queued_jobs,
            max_bytes: limits.max_queue_bytes,
            normal_share: 0.95,
            bulk_share: 0.8,
            tenant_share: 0.9,
            result_ttl_hours: limits.result_ttl.as_secs() / 3600,
            max_result_bytes: limits.max_result_bytes,
            max_text_bytes: limits.max_text_bytes,
            dead_letter_ttl_days: limits.dead_letter_ttl.as_secs() / 86_400,
            max_call_bytes: limits.max_call_bytes,
        }
    }
}

impl QueueConfig {
    /// Returns the limits for the topology.
    pub fn topology_limits(&self) -> TopologyLimits {
        TopologyLimits {
            max_queued_jobs: self.max_jobs,
            max_jobs_per_subject: share_of(self.max_jobs, self.tenant_share),
            max_queue_bytes: self.max_bytes,
            result_ttl: Duration::from_secs(self.result_ttl_seconds()),
            max_result_bytes: self.max_result_bytes,
            max_text_bytes: self.max_text_bytes,
            dead_letter_ttl: Duration::from_secs(self.dead_letter_ttl_days * 86_400),
            max_call_bytes: self.max_call_bytes,
        }
    }

    /// Returns the number of queued jobs from which gateways accept no more in the lane. Uploads count as `bulk`, whatever
    /// their lane.
    pub fn max_jobs_of(&self, lane: Lane, is_upload: bool) -> u64 {
        let share = match lane {
            Lane::High => 1.0,
            Lane::Normal => self.normal_share,
            Lane::Bulk => self.bulk_share,
        };
        let share = if is_upload {
            share.min(self.bulk_share)
        } else {
            share
        };
        share_of(self.max_jobs, share)
    }

    pub(super) fn result_ttl_seconds(&self) -> u64 {
        self.result_ttl_hours.saturating_mul(3_600)
    }
}

/// Returns a share of `jobs`, rounded up.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number of jobs"
)]
fn share_of(jobs: u64, share: f64) -> u64 {
    (jobs as f64 * share).ceil() as u64
}

impl Section for QueueConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, share) in [
            ("queue.normal_share", self.normal_share),
            ("queue.bulk_share", self.bulk_share),
            ("queue.tenant_share", self.tenant_share),
        ] {
            check::require(share > 0.0 && share <= 1.0, key, "must be above 0 and at most 1")?;
        }
        check::within("queue.result_ttl_hours", self.result_ttl_hours, 1..=8_760)?;
        check::within("queue.dead_letter_ttl_days", self.dead_letter_ttl_days, 1..=3_650)
    }
}

/// Most bytes of a character as JSON: two escapes `\uXXXX` if it is outside the Basic Multilingual Plane.
const MAX_CHAR_BYTES: usize = 12;
/// Most bytes of one byte of UTF-8 as JSON: ASCII may be escaped as `\uXXXX`.
const MAX_BYTE_BYTES: usize = 6;
/// Bytes for the rest of a job: field names, parameters, a callback and white space.
const OVERHEAD_BYTES: usize = 64 << 10;
/// Least default of [`LimitsConfig::max_body_bytes`], for requests with several texts.
const MIN_BODY_BYTES: usize = 1 << 20;

/// Limits of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Maximum length of a text.
    pub max_text_chars: usize,
    /// Maximum length of a reference.
    pub max_reference_chars: usize,
    /// Maximum size of an HTTP body. Unset: enough for the longest allowed text, reference and metadata, however JSON
    /// escapes them, and at least 1 MiB.
    pub max_body_bytes: Option<usize>,
    /// Maximum time that a client may wait for a result in one request, at most 600.
    pub max_wait_seconds: u64,
    /// Maximum number of articles in one call of `/article/summarize_batch`.
    pub max_batch_texts: usize,
    /// Maximum number of entries in `metadata`.
    pub max_metadata_entries: usize,
    /// Maximum size of a key or value in `metadata`.
    pub max_metadata_bytes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let job = JobLimits::default();
        Self {
            max_text_chars: job.max_text_chars,
            max_reference_chars: job.max_reference_chars,
            max_body_bytes: None,
            max_wait_seconds: 120,
            max_batch_texts: 64,
            max_metadata_entries: job.max_metadata_entries,
            max_metadata_bytes: job.max_metadata_bytes,
        }
    }
}

impl LimitsConfig {
    /// Returns an upper bound on the bytes of a valid job as JSON, which is also that of a batch row.
    pub fn max_row_bytes(&self) -> usize {
        // A job has two short texts, its reference and a summary to score.
        let texts = self
            .max_reference_chars
            .saturating_mul(2)
            .saturating_add(self.max_text_chars);
        let metadata = self
            .max_metadata_bytes
            .saturating_mul(2)
            .saturating_mul(self.max_metadata_entries);
        texts
            .saturating_mul(MAX_CHAR_BYTES)
            .saturating_add(metadata.saturating_mul(MAX_BYTE_BYTES))
            .saturating_add(OVERHEAD_BYTES)
    }

    /// Returns the maximum size of an HTTP body, in bytes. Unless configured, it follows from the other limits.
    pub fn body_bytes(&self) -> usize {
        self.max_body_bytes
            .unwrap_or_else(|| self.max_row_bytes().max(MIN_BODY_BYTES))
    }

    /// Returns the limits of a job.
    pub fn job(&self) -> JobLimits {
        JobLimits {
            max_text_chars: self.max_text_chars,
            max_reference_chars: self.max_reference_chars,
            max_metadata_entries: self.max_metadata_entries,
            max_metadata_bytes: self.max_metadata_bytes,
        }
    }
}

impl Section for LimitsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check::at_most("limits.max_wait_seconds", self.max_wait_seconds, 600)?;
        check::positive("limits.max_text_chars", self.max_text_chars)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_body_limit_follows_from_the_text_limits_unless_configured() {
        let limits = LimitsConfig::default();
        let job = limits.job();
        // Python's json.dumps escapes everything outside ASCII.
        let escaped = |chars: usize| "\\ud83d\\ude00".repeat(chars);
        let metadata: BTreeMap<String, String> = (0..job.max_metadata_entries)
            .map(|entry| {
                let text = "\u{1}".repeat(job.max_metadata_bytes - 4);
                (format!("{entry:04}{text}"), format!("{text}0000"))
            })
            .collect();
        let body = format!(
            r#"{{"text":"{}","reference":"{}","metadata":{}}}"#,
            escaped(job.max_text_chars),
            escaped(job.max_reference_chars),
            serde_json::to_string(&metadata).unwrap(),
        );
        let read: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read["text"].as_str().unwrap().chars().count(), job.max_text_chars);
        assert!(body.len() > MIN_BODY_BYTES);
        assert!(body.len() <= limits.body_bytes());

        let longer = LimitsConfig {
            max_text_chars: 10 * limits.max_text_chars,
            ..limits
        };
        assert!(longer.body_bytes() > 10 * escaped(limits.max_text_chars).len());
        let shorter = LimitsConfig {
            max_text_chars: 10,
            max_reference_chars: 10,
            ..limits
        };
        assert_eq!(shorter.body_bytes(), MIN_BODY_BYTES);
        let configured = LimitsConfig {
            max_body_bytes: Some(4_096),
            ..limits
        };
        assert_eq!(configured.body_bytes(), 4_096);
        let endless = LimitsConfig {
            max_text_chars: usize::MAX,
            ..limits
        };
        assert_eq!(endless.body_bytes(), usize::MAX);
    }
}
