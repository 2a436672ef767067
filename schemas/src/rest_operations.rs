//! Bodies of `/v1/queue`, `/v1/dead-letters`, `/v1/status` and `/v1/sample-history`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dead::DeadLetter;
use crate::error_code::Refusal;
use crate::event::Heartbeat;
use crate::monitor_request::SinkStatus;
use crate::subject::{Lane, Token, named};

/// Response of `GET /v1/queue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueView {
    /// Every lane of every model that workers have served. With API keys, the caller's jobs only.
    pub lanes: Vec<LaneView>,
    /// The last heartbeat of every live worker.
    pub workers: Vec<Heartbeat>,
}

/// A lane of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneView {
    /// The served model.
    pub model: Token,
    /// The lane.
    pub lane: Lane,
    /// Jobs that wait or run.
    pub jobs: u64,
    /// Time at which the oldest of them was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub oldest_at: Option<Timestamp>,
    /// Seconds that live workers need for them if they do nothing else. Absent if no worker has measured its pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<f64>,
}

/// Response of `GET /v1/dead-letters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    /// Dead letters, the latest first.
    pub dead_letters: Vec<DeadLetterView>,
    /// Pass it as `before` for the next page. Absent at the end. A page may be short although there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterView {
    /// Its sequence in the stream `DEAD`, for `GET /v1/dead-letters/{sequence}`.
    pub sequence: u64,
    /// Its kind: the task of a job, `webhook`, or the sink that rejected a result.
    pub kind: String,
    /// Whether `POST /v1/dead-letters/{sequence}/replay` accepts it.
    pub replayable: bool,
    /// Id of the job, if the body names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The letter. Lists hold the first 300 characters of its body.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// Response of `POST /v1/dead-letters/{sequence}/replay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// Handle of the new job; absent for a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

named! {
    /// State of a part of the deployment.
    PartState as "the state" {
        /// It works.
        Up = "up",
        /// It does not answer, or its last attempt failed.
        Down = "down",
        /// It is not configured.
        Off = "off",
        /// The monitor, which knows, does not answer.
        Unknown = "unknown",
    }
}

/// Response of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Version of the gateway.
    pub version: String,
    /// The parts: `nats`, `clickhouse`, `monitor`, `arize`, `phoenix`.
    pub parts: Vec<PartView>,
    /// Webhooks that are not delivered yet. Absent if the caller may not see every tenant, or NATS does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<WebhookBacklog>,
    /// Sinks of the monitor. Empty if the caller may not see every tenant.
    pub sinks: Vec<SinkStatus>,
}

/// A part of the deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartView {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: PartState,
    /// Why it is down. Only callers who may see every tenant get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Messages that wait for it. Only callers who may see every tenant get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
}

/// Webhooks that are not delivered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookBacklog {
    /// Webhooks that no gateway has taken yet.
    pub waiting: u64,
    /// Webhooks that a gateway is delivering, or will try again.
    pub in_flight: u64,
}

/// Response of `/v1/sample-history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SampleHistory {
    /// Predictions of the sample history that are stored. All belong to the tenant `sample-history`.
    pub predictions: u64,
    /// Sample articles with references that are stored.
    pub pairs: u64,
    /// Time of the first of the predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub from: Option<Timestamp>,
    /// Time of the last of the predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub to: Option<Timestamp>,
}

impl SampleHistory {
    /// Tenant of the predictions.
    pub const TENANT: &str = "sample-history";
}

/// A dead letter with its place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Its sequence in the stream `DEAD`.
    pub sequence: u64,
    /// The last token of its subject.
    pub kind: String,
    /// The letter.
    pub letter: DeadLetter,
}

impl StoredDeadLetter {
    /// Reads a message of the stream `DEAD`. One that is not a dead letter becomes one with its bytes as the body.
    pub fn read(sequence: u64, subject: &str, body: &[u8], stored_at: Timestamp) -> Self {
        let letter = serde_json::from_slice(body).unwrap_or_else(|error| {
            let reason = Refusal::new(
                crate::ErrorCode::Internal,
                format!("this dead letter is not readable: {error}"),
            );
            DeadLetter::new(0, subject, body, reason, 0, stored_at, stored_at)
        });
        Self {
            sequence,
            kind: subject.rsplit('.').next().unwrap_or_default().to_owned(),
            letter,
        }
    }

    /// Returns the tenant that the letter's message belongs to. A rejected result names it in its body.
    pub fn tenant(&self) -> Option<String> {
        let mut tokens = self.letter.subject.split('.');
        match tokens.next()? {
            "jobs" => tokens.nth(4).map(str::to_owned),
            "webhooks" => tokens.nth(1).map(str::to_owned),
            _ => {
                let body: serde_json::Value = serde_json::from_str(self.letter.body.as_deref()?).ok()?;
                Some(body.get("tenant")?.as_str()?.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(subject: &str, body: &str) -> StoredDeadLetter {
        let at = Timestamp::UNIX_EPOCH;
        let reason = Refusal::new(crate::ErrorCode::TooManyAttempts, "ten");
        let letter = DeadLetter::new(7, subject, body.as_bytes(), reason, 10, at, at);
        StoredDeadLetter::read(3, "dead.v1.summarize", &serde_json::to_vec(&letter).unwrap(), at)
    }

    #[test]
    fn the_tenant_is_in_the_subject_or_the_body() {
        assert_eq!(
            letter("jobs.v1.default.normal.summarize.acme", "")
                .tenant()
                .as_deref(),
            Some("acme")
        );
        assert_eq!(
            letter("webhooks.v2.acme.job", "{}").tenant().as_deref(),
            Some("acme")
        );
        assert_eq!(
            letter("results.v1.x", "{\"tenant\": \"acme\"}")
                .tenant()
                .as_deref(),
            Some("acme")
        );
        assert_eq!(letter("results.v1.x", "nonsense").tenant(), None);
    }

    #[test]
    fn an_unreadable_message_is_shown_as_a_dead_letter() {
        let read = StoredDeadLetter::read(3, "dead.v1.score", b"nonsense", Timestamp::UNIX_EPOCH);
        assert_eq!(
            (read.kind.as_str(), read.letter.body.as_deref()),
            ("score", Some("nonsense"))
        );
    }
}
