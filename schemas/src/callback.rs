//! Webhooks: their receivers, announcements and payloads.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::subject::{self, Token};

/// The receiver of a job's webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// URL of the receiver. `https` only, unless the deployment allows `http`.
    pub url: String,
    /// Name of the API key whose secret signs the webhook. Without one, the deployment's secret signs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Token>,
}

/// The body of a webhook, as Standard Webhooks recommends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebhookEvent<T> {
    /// The event: `job.succeeded`, `job.failed`, `job.cancelled`, `job.expired`, `batch.finished` or `batch.broken`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Time of the event.
    pub timestamp: Timestamp,
    /// The job or the batch, as REST returns it.
    pub data: T,
}

/// The job or batch that a webhook reports on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WebhookSubject {
    /// A job.
    Job {
        /// Its id.
        id: JobId,
        /// Its sequence in `JOBS`. The id of a cancelled job may be submitted again; that job ends separately.
        #[serde(default)]
        job_sequence: u64,
    },
    /// A batch. It is announced before its first row is queued; the gateway then checks it until it ends.
    Batch {
        /// Its id.
        id: JobId,
    },
}

/// A message on `webhooks.v2.<tenant>.<kind>` in the stream `WEBHOOKS`: a webhook is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The job or batch.
    pub ended: WebhookSubject,
    /// Its tenant.
    pub tenant: Token,
    /// The receiver.
    pub callback: Callback,
    /// Time of this announcement.
    pub announced_at: Timestamp,
}

impl Announcement {
    /// Returns the subject to publish it on.
    pub fn subject(&self) -> String {
        let kind = match self.ended {
            WebhookSubject::Job { .. } => "job",
            WebhookSubject::Batch { .. } => "batch",
        };
        subject::webhook_of(&self.tenant, kind)
    }

    /// Returns the webhook's id: the same for every attempt, so that receivers can drop duplicates.
    pub fn webhook_id(&self) -> String {
        match &self.ended {
            WebhookSubject::Job { id, job_sequence } => format!("job_{id}_{job_sequence}"),
            WebhookSubject::Batch { id } => format!("batch_{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resubmitted_id_gets_its_own_webhook() {
        let of = |job_sequence| Announcement {
            ended: WebhookSubject::Job {
                id: "a".parse().unwrap(),
                job_sequence,
            },
            tenant: Token::sanitized("acme"),
            callback: Callback {
                url: "https://hooks.example.com/".to_owned(),
                key: None,
            },
            announced_at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(of(7).webhook_id(), of(7).webhook_id());
        assert_ne!(of(7).webhook_id(), of(9).webhook_id());
    }
}
