//! Subjects as types. No other code puts a subject together or takes one apart.
//!
//! | subject | stream | what |
//! | --- | --- | --- |
//! | `jobs.v1.<model>.<lane>.<task>.<tenant>` | `JOBS` | a job to do |
//! | `results.v1.<job_id>` | `RESULTS` | its one result |
//! | `done.v1.<job_id>` | none | the result again, once `RESULTS` has stored it |
//! | `references.v1.<job_id>` | `REFERENCES` | a human's summary that came after the job |
//! | `calls.v1.<name>` | `CALLS` | what is remembered of a request |
//! | `batches.v1.<tenant>.<batch_id>.<part>` | `BATCHES` | which rows a batch has |
//! | `webhooks.v1.<kind>` | `WEBHOOKS` | a job or a batch whose end is to be posted |
//! | `dead.v1.<task>` | `DEAD` | a job that could not be done, with the reason |
//! | `progress.v1.<job_id>` | none | running, partial text |
//! | `cancels.v1.<job_id>` | none | a job that nobody wants any more |
//! | `workers.v1.<worker_id>` | none | heartbeat |

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, is_token};

/// Every job of version 1.
pub const ALL_JOBS: &str = "jobs.v1.>";
/// Every result of version 1.
pub const ALL_RESULTS: &str = "results.v1.*";
/// Every result of version 1 that `RESULTS` has stored: the server itself repeats it there. On `results.v1.*` a
/// subscriber also sees those that the stream refuses, because another was first.
pub const ALL_DONE: &str = "done.v1.*";
/// Where the server repeats what matches [`ALL_RESULTS`], in NATS' language of subject mappings.
pub const DONE_OF_RESULTS: &str = "done.v1.{{wildcard(1)}}";
/// Every late reference of version 1.
pub const ALL_REFERENCES: &str = "references.v1.*";
/// All that is remembered of requests.
pub const ALL_CALLS: &str = "calls.v1.*";
/// What is kept of batches of version 1.
pub const ALL_BATCHES: &str = "batches.v1.>";
/// Every announcement of a webhook of version 1.
pub const ALL_WEBHOOKS: &str = "webhooks.v1.*";
/// Every dead letter of version 1.
pub const ALL_DEAD: &str = "dead.v1.*";
/// Every progress event of version 1.
pub const ALL_PROGRESS: &str = "progress.v1.*";
/// Every job that is cancelled.
pub const ALL_CANCELS: &str = "cancels.v1.*";
/// Every worker's heartbeat.
pub const ALL_WORKERS: &str = "workers.v1.*";

/// Why a text can't be one token of a subject, or is none of a fixed set of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {wanted}, and {given:?} is not")]
pub struct InvalidToken {
    /// What the token stands for.
    pub what: &'static str,
    /// What is allowed, in words.
    pub wanted: String,
    /// The rejected text, cut to 80 characters.
    pub given: String,
}

impl InvalidToken {
    /// `given` is not one of `names`.
    pub(crate) fn not_among(what: &'static str, names: &[&str], given: &str) -> Self {
        let given = given.chars().take(80).collect();
        Self {
            what,
            wanted: format!("one of {}", names.join(", ")),
            given,
        }
    }
}

/// A checked part of a subject: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
pub struct Token(String);

impl Token {
    /// Checks `text`; `what` names it in the error.
    ///
    /// # Errors
    /// When the text is empty, longer than 64 characters or has other characters.
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

    /// The nearest token to a name such as `google/flan-t5-small`: other characters become `-`.
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

    /// The token as text.
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
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name on the wire.
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
                    _ => Err($crate::subject::InvalidToken::not_among(stringify!($name), &[$($text),+], text)),
                }
            }
        }
    };
}
pub(crate) use named;

named! {
    /// Priority of a job. Each lane is a consumer of its own; workers pull them by weight, so that bulk
    /// work never blocks an interactive request and is never starved by it.
    Lane {
        /// Somebody waits for it.
        High = "high",
        /// The default.
        Normal = "normal",
        /// As soon as there is room.
        Bulk = "bulk",
    }
}

impl Lane {
    /// How large a part of a worker's pulls goes to this lane, while others have jobs too.
    pub fn weight(self) -> u32 {
        match self {
            Self::High => 8,
            Self::Normal => 4,
            Self::Bulk => 1,
        }
    }
}

named! {
    /// What is to be done with a job's text.
    Task {
        /// Write a summary.
        Summarize = "summarize",
        /// Score a summary against the job's reference: a given one, or else one that is written first.
        Score = "score",
    }
}

/// Subject of a job: `jobs.v1.<model>.<lane>.<task>.<tenant>`.
///
/// No job id in it: filtered consumers over very many subjects are slow in JetStream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobSubject {
    /// Name under which the model is served.
    pub model: Token,
    /// Priority.
    pub lane: Lane,
    /// What is to be done.
    pub task: Task,
    /// On whose account.
    pub tenant: Token,
}

/// Why a subject is not that of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJobSubject {
    /// Not six tokens that begin with `jobs.v1`.
    #[error("a job's subject is jobs.v1.<model>.<lane>.<task>.<tenant>, and {0:?} is not")]
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

/// Filter of the consumer of one model and lane.
pub fn jobs_of(model: &Token, lane: Lane) -> String {
    format!("jobs.v1.{model}.{lane}.>")
}

/// Filter of all jobs of a tenant.
pub fn jobs_of_tenant(tenant: &Token) -> String {
    format!("jobs.v1.*.*.*.{tenant}")
}

/// Subject of a job's one result.
pub fn result_of(id: &JobId) -> String {
    format!("results.v1.{id}")
}

/// Subject of a human's summary that comes after its job.
pub fn reference_of(id: &JobId) -> String {
    format!("references.v1.{id}")
}

/// Subject of a job's progress events.
pub fn progress_of(id: &JobId) -> String {
    format!("progress.v1.{id}")
}

/// Subject on which a job is cancelled.
pub fn cancel_of(id: &JobId) -> String {
    format!("cancels.v1.{id}")
}

/// Subject of dead letters of a kind; `task` is free text because a dead letter may be anything.
pub fn dead_of(task: &Token) -> String {
    format!("dead.v1.{task}")
}

/// Subject of what is remembered of a request under a name.
pub fn call_of(name: &Token) -> String {
    format!("calls.v1.{name}")
}

/// Subject of a worker's heartbeat.
pub fn worker_of(worker: &Token) -> String {
    format!("workers.v1.{worker}")
}

/// The job id in the subject of a result, be it to be stored or stored, or of a progress event.
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
    fn a_job_subject_survives_a_round_trip() {
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
    fn other_subjects_are_refused_with_the_reason() {
        for (subject, part) in [
            ("jobs.v2.a.high.summarize.b", "jobs.v1.<model>"),
            ("jobs.v1.a.high.summarize", "jobs.v1.<model>"),
            (
                "jobs.v1.a.urgent.summarize.b",
                "Lane must be one of high, normal, bulk",
            ),
            ("jobs.v1.a.high.translate.b", "Task"),
            ("jobs.v1.a b.high.summarize.b", "the model"),
        ] {
            let error = subject.parse::<JobSubject>().unwrap_err().to_string();
            assert!(error.contains(part), "{subject}: {error}");
        }
    }

    #[test]
    fn a_hub_name_becomes_a_token() {
        assert_eq!(
            Token::sanitized("google/flan-t5.small").as_str(),
            "google-flan-t5-small"
        );
        assert_eq!(Token::sanitized("").as_str(), "-");
    }

    proptest! {
        #[test]
        fn a_sanitized_name_is_always_a_token(name in ".{0,100}") {
            prop_assert!(is_token(Token::sanitized(&name).as_str()));
        }
    }
}
