//! Where the end of a job or a batch is to be posted, and the announcement that it is time to.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::result::JobResult;
use crate::subject::Token;

/// Where the end of a job is to be posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// The address: https, unless the deployment allows more.
    pub url: String,
    /// Name of the API key whose secret signs; the deployment's secret without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Token>,
}

/// What is posted, in the form that Standard Webhooks recommends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebhookEvent<T> {
    /// What has happened: `job.succeeded`, `job.failed`, `job.cancelled`, `job.expired`, `batch.finished` or `batch.broken`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub timestamp: Timestamp,
    /// The job or the batch as REST shows it.
    pub data: T,
}

/// What has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WebhookSubject {
    /// A job.
    Job {
        /// Its id.
        id: JobId,
        /// Its sequence in `JOBS`: an id that was cancelled may be submitted again, and ends again.
        #[serde(default)]
        job_sequence: u64,
    },
    /// A batch; announced before its first row is queued, and looked at until it has ended.
    Batch {
        /// Its id.
        id: JobId,
    },
}

/// On `webhooks.v1.<kind>`, in the stream `WEBHOOKS`: something is to be posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// What has ended.
    pub ended: WebhookSubject,
    /// On whose account it was.
    pub tenant: Token,
    /// Where to post.
    pub callback: Callback,
    /// When this was written.
    pub announced_at: Timestamp,
}

impl Announcement {
    /// The announcement of a job's end; none when nobody wants to hear of it.
    pub fn of_result(result: &JobResult, announced_at: Timestamp) -> Option<Self> {
        Some(Self {
            ended: WebhookSubject::Job {
                id: result.id.clone(),
                job_sequence: result.job_sequence,
            },
            tenant: result.tenant.clone(),
            callback: result.callback.clone()?,
            announced_at,
        })
    }

    /// The subject on which it goes.
    pub fn subject(&self) -> &'static str {
        match self.ended {
            WebhookSubject::Job { .. } => "webhooks.v1.job",
            WebhookSubject::Batch { .. } => "webhooks.v1.batch",
        }
    }

    /// Identity of the webhook: the same for every attempt, so that a receiver can drop one that comes twice.
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
    fn an_id_that_is_submitted_again_ends_twice() {
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
