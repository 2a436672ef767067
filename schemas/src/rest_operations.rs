//! Bodies of `/v1/queue` and `/v1/dead-letters`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dead::DeadLetter;
use crate::error_code::Refusal;
use crate::event::Heartbeat;
use crate::subject::{Lane, Token};

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
