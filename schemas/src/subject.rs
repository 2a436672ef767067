//! Builds and parses subjects. No other code does.
//!
//! | subject | stream | what |
//! | --- | --- | --- |
//! | `jobs.v1.<model>.<lane>.<task>.<tenant>` | `JOBS` | a job |
//! | `queued.v1.<model>.<lane>.<task>.<tenant>` | none | its headers, republished once `JOBS` has stored it |
//! | `results.v1.<job_id>` | `RESULTS` | its result |
//! | `texts.v1.<tenant>.<job_id>.<job_sequence>` | `TEXTS` | the text of a job that ended |
//! | `done.v1.<job_id>` | none | the result, republished once `RESULTS` has stored it |
//! | `references.v1.<job_id>` | `REFERENCES` | a late reference |
//! | `calls.v1.<name>` | `CALLS` | the record of a request |
//! | `batches.v1.<tenant>.<batch_id>.<part>` | `BATCHES` | a part of a batch's manifest |
//! | `webhooks.v2.<tenant>.<kind>` | `WEBHOOKS` | an announcement of a webhook |
//! | `dead.v1.<task>` | `DEAD` | a dead letter |
//! | `progress.v1.<job_id>` | none | progress |
//! | `cancels.v1.<job_id>` | none | a cancellation |
//! | `workers.v1.<worker_id>` | none | heartbeat |
//! | `drains.v1.<worker_id>` | none | a request to retire |
//! | `monitors.v1.<request>` | none | a request to the monitor ([`MonitorRequest`](crate::monitor_request::MonitorRequest)) |

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, is_token};

/// Filter for all jobs of version 1.
pub const ALL_JOBS: &str = "jobs.v1.>";
/// Filter for jobs of every version.
pub const JOBS_OF_EVERY_VERSION: &str = "jobs.>";
/// Destination of the notes about stored jobs, in NATS' subject mapping syntax: the server republishes their headers.
pub const QUEUED_OF_JOBS: &str = "queued.>";
/// Filter for all results of version 1, including rejected ones.
pub const ALL_RESULTS: &str = "results.v1.*";
/// Filter for all texts of version 1.
pub const ALL_TEXTS: &str = "texts.v1.>";
/// Filter for all results of version 1 that `RESULTS` has stored: the server republishes them. On `results.v1.*` a
/// subscriber also sees results that the stream rejects because another one was first.
pub const ALL_DONE: &str = "done.v1.*";
/// Destination of republished results, in NATS' subject mapping syntax.
pub const DONE_OF_RESULTS: &str = "done.v1.{{wildcard(1)}}";
/// Filter for all late references of version 1.
pub const ALL_REFERENCES: &str = "references.v1.*";
/// Filter for all request records.
pub const ALL_CALLS: &str = "calls.v1.*";
/// Filter for all batch manifests of version 1.
pub const ALL_BATCHES: &str = "batches.v1.>";
/// Filter for all announcements of webhooks of version 1, which older processes publish.
pub const ALL_WEBHOOKS_V1: &str = "webhooks.v1.*";
/// Filter for all announcements of webhooks.
pub const ALL_WEBHOOKS: &str = "webhooks.v2.*.*";
/// Filter for all dead letters of version 1.
pub const ALL_DEAD: &str = "dead.v1.*";
/// Filter for all progress events of version 1.
pub const ALL_PROGRESS: &str = "progress.v1.*";
/// Filter for all cancellations.
pub const ALL_CANCELS: &str = "cancels.v1.*";
/// Filter for all heartbeats.
pub const ALL_WORKERS: &str = "workers.v1.*";

/// A string that is not a subject token, or not one of the allowed names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {wanted}, not {given:?}")]
pub struct InvalidToken {
    /// Meaning of the token.
    pub what: &'static str,
    /// The accepted values, in words.
    pub wanted: String,
    /// The rejected string, cut to 80 characters.
    pub given: String,
}

impl InvalidToken {
    /// Rejects `given` because it is not one of `names`.
    pub(crate) fn not_among(what: &'static str, names: &[&str], given: &str) -> Self {
        let given = given.chars().take(80).collect();
        Self {
            what,
            wanted: format!("one of {}", names.join(", ")),
            given,
        }
    }
}

/// A token of a subject: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
pub struct Token(String);

impl Token {
    /// Checks `text`; `what` names it in the error.
    ///
    /// # Errors
    /// If `text` is empty, has more than 64 characters, or has other characters.
    pub fn new(what: &'static str, text: &str) -> Result<Self, InvalidToken> {
        if is_token(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidToken {
                what,
                wanted: "1 to 64 characters of A-Z a-z 0-9 _ -".to_owned(),
                given: text.chars().take(80).collect(),
            })
        }
    }

    /// Converts a name such as `google/flan-t5-small` to a token: other characters become `-`.
    pub fn sanitized(name: &str) -> Self {
        let mut text: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '-'
                }
            })
            .take(64)
            .collect();
        if text.is_empty() {
            text.push('-');
        }
        Self(text)
    }

    /// Returns the token as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, InvalidToken> {
        Self::new("a name", &text)
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident as $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// All variants, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::subject::InvalidToken;

            fn from_str(text: &str) -> Result<Self, $crate::subject::InvalidToken> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::subject::InvalidToken::not_among($what, &[$($text),+], text)),
                }
            }
        }
    };
}
pub(crate) use named;

named! {
    /// Priority of a job. Workers serve lanes by weight, so that bulk jobs neither block interactive ones nor starve.
    Lane as "the lane" {
        /// Interactive requests.
        High = "high",
        /// The default.
        Normal = "normal",
        /// Background work.
        Bulk = "bulk",
    }
}

impl Lane {
    /// Returns the lane's share of a worker's jobs while other lanes have jobs too.
    pub fn weight(self) -> u32 {
        match self {
            Self::High => 8,
            Self::Normal => 4,
            Self::Bulk => 1,
        }
    }
}

named! {
    /// Task of a job.
    Task as "the task" {
        /// Write a summary.
        Summarize = "summarize",
        /// Score a summary against the job's reference: the given summary, or the model's.
        Score = "score",
    }
}

/// Subject of a job: `jobs.v1.<model>.<lane>.<task>.<tenant>`.
///
/// It has no job id, because JetStream's filtered consumers are slow over very many subjects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobSubject {
    /// Name under which the model is served.
    pub model: Token,
    /// Priority.
    pub lane: Lane,
    /// Task.
    pub task: Task,
    /// Tenant.
    pub tenant: Token,
}

/// Error of parsing a job's subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJobSubject {
    /// Not six tokens that begin with `jobs.v1`.
    #[error("a job's subject is jobs.v1.<model>.<lane>.<task>.<tenant>, not {0:?}")]
    Shape(String),
    /// One of the tokens is wrong.
    #[error(transparent)]
    Token(#[from] InvalidToken),
}

impl fmt::Display for JobSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "jobs.v1.{}.{}.{}.{}",
            self.model, self.lane, self.task, self.tenant
        )
    }
}

impl FromStr for JobSubject {
    type Err = InvalidJobSubject;

    fn from_str(subject: &str) -> Result<Self, InvalidJobSubject> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let ["jobs", "v1", model, lane, task, tenant] = tokens[..] else {
            return Err(InvalidJobSubject::Shape(subject.chars().take(200).collect()));
        };
        Ok(Self {
            model: Token::new("the model", model)?,
            lane: lane.parse()?,
            task: task.parse()?,
            tenant: Token::new("the tenant", tenant)?,
        })
    }
}

/// Returns the filter for jobs of a tenant.
pub fn jobs_of_tenant(tenant: &Token) -> String {
    format!("jobs.v1.*.*.*.{tenant}")
}

/// Returns the subject of a job's result.
pub fn result_of(id: &JobId) -> String {
    format!("results.v1.{id}")
}

/// Returns the subject of the text of the job at `sequence` of `JOBS`.
pub fn text_of(tenant: &Token, id: &JobId, sequence: u64) -> String {
    format!("texts.v1.{tenant}.{id}.{sequence}")
}

/// Returns the subject of a job's late references.
pub fn reference_of(id: &JobId) -> String {
    format!("references.v1.{id}")
}

/// Returns the subject of a job's progress.
pub fn progress_of(id: &JobId) -> String {
    format!("progress.v1.{id}")
}

/// Returns the subject of a job's cancellation.
pub fn cancel_of(id: &JobId) -> String {
    format!("cancels.v1.{id}")
}

/// Returns the subject of dead letters of a kind: a task, or another token for messages that are not jobs.
pub fn dead_of(task: &Token) -> String {
    format!("dead.v1.{task}")
}

/// Returns the subject of a tenant's announcements of a kind: `job` or `batch`.
pub(crate) fn webhook_of(tenant: &Token, kind: &str) -> String {
    format!("webhooks.v2.{tenant}.{kind}")
}

/// Returns the subject of a request's record.
pub fn call_of(name: &Token) -> String {
    format!("calls.v1.{name}")
}

/// Returns the subject of a worker's heartbeats.
pub fn worker_of(worker: &Token) -> String {
    format!("workers.v1.{worker}")
}

/// Returns the subject of requests to retire a worker.
pub fn drain_of(worker: &Token) -> String {
    format!("drains.v1.{worker}")
}

/// Returns the job id in the subject of a result, a republished result, or progress.
pub fn job_id_of(subject: &str) -> Option<JobId> {
    subject
        .strip_prefix("results.v1.")
        .or_else(|| subject.strip_prefix("progress.v1."))
        .or_else(|| subject.strip_prefix("done.v1."))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn job_subjects_round_trip() {
        let subject = JobSubject {
            model: Token::new("the model", "flan-t5-small").unwrap(),
            lane: Lane::High,
            task: Task::Summarize,
            tenant: Token::new("the tenant", "acme").unwrap(),
        };
        assert_eq!(subject.to_string(), "jobs.v1.flan-t5-small.high.summarize.acme");
        assert_eq!(subject.to_string().parse::<JobSubject>().unwrap(), subject);
    }

    #[test]
    fn malformed_subjects_are_rejected_with_a_reason() {
        for (subject, part) in [
            ("jobs.v2.a.high.summarize.b", "jobs.v1.<model>"),
            ("jobs.v1.a.high.summarize", "jobs.v1.<model>"),
            (
                "jobs.v1.a.urgent.summarize.b",
                "the lane must be one of high, normal, bulk",
            ),
            (
                "jobs.v1.a.high.translate.b",
                "the task must be one of summarize, score",
            ),
            ("jobs.v1.a b.high.summarize.b", "the model"),
        ] {
            let error = subject.parse::<JobSubject>().unwrap_err().to_string();
            assert!(error.contains(part), "{subject}: {error}");
        }
    }

    #[test]
    fn hub_names_are_sanitized() {
        assert_eq!(
            Token::sanitized("google/flan-t5.small").as_str(),
            "google-flan-t5-small"
        );
        assert_eq!(Token::sanitized("").as_str(), "-");
    }

    proptest! {
        #[test]
        fn sanitized_names_are_always_tokens(name in ".{0,100}") {
            prop_assert!(is_token(Token::sanitized(&name).as_str()));
        }
    }
}
