//! A job as its publisher writes it (version 1): the body of a message on [`JobSubject`](crate::JobSubject).
//!
//! Model, lane, task and tenant are in the subject, and only there. The time of submission is the
//! time at which the stream took the message.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error_code::{ErrorCode, Refusal};
use crate::ids::JobId;
use crate::params::GenerationParams;
use crate::subject::named;

named! {
    /// By which way a job came in.
    #[derive(Default)]
    Channel {
        /// REST, `/v1`.
        Api = "api",
        /// The routes of the local serving component (`/article/…`, `/model/score` with wrapped bodies).
        Local = "local",
        /// The same routes with plain bodies, and the MLflow scoring server's `/invocations`.
        Mlflow = "mlflow",
        /// The routes of the Lambda function (`/online-predict`, `/batch-predict`, `/score`).
        Lambda = "lambda",
        /// A SageMaker endpoint (`/invocations` with `articles`, `/endpoints/…`).
        Sagemaker = "sagemaker",
        /// Published to NATS by a client.
        #[default]
        Direct = "direct",
        /// From a file or a feed, by `precis-producer`.
        Batch = "batch",
        /// Predictions that were made elsewhere and only logged here.
        Other = "other",
    }
}

/// Most entries of [`Job::metadata`].
pub const MAX_METADATA_ENTRIES: usize = 16;
/// Longest key or value of [`Job::metadata`], in bytes.
pub const MAX_METADATA_BYTES: usize = 512;

/// A text to summarize.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Identity, chosen by the publisher; the result appears on `results.v1.<id>`.
    pub id: JobId,
    /// The text to summarize.
    pub text: String,
    /// A summary by a human, when there is one: the monitor then scores the model's against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How to generate.
    #[serde(default)]
    pub params: GenerationParams,
    /// After this time the job is answered `expired` and not worked on. Queue time counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deadline: Option<Timestamp>,
    /// By which way the job came in.
    #[serde(default)]
    pub channel: Channel,
    /// The publisher's own notes; they come back with the result and stand in the row.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Whether the result is forwarded to Arize and Phoenix, where the deployment has them: always, or never. Left
    /// open, the deployment's sampling rate decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_to_arize: Option<bool>,
}

/// Bounds on what a job may carry, the same at the API and at the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobLimits {
    /// Longest text, in characters.
    pub max_text_chars: usize,
    /// Longest reference, in characters.
    pub max_reference_chars: usize,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            max_text_chars: 200_000,
            max_reference_chars: 20_000,
        }
    }
}

impl Job {
    /// Reads a job from a message body.
    ///
    /// # Errors
    /// A refusal with [`ErrorCode::InvalidRequest`] that says where the body departs from the contract.
    pub fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|error| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!("not a job of version 1: {error}"),
            )
        })
    }

    /// The id in a body that is otherwise not a job, so that its publisher can still be answered.
    pub fn salvage_id(body: &[u8]) -> Option<JobId> {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        value.get("id")?.as_str()?.parse().ok()
    }

    /// Checks everything that can be known without a model.
    ///
    /// # Errors
    /// The first refusal that applies: empty or too long text, bad parameters, too much metadata.
    pub fn validate(&self, limits: &JobLimits) -> Result<(), Refusal> {
        if self.text.trim().is_empty() {
            return Err(Refusal::new(
                ErrorCode::EmptyText,
                "text is empty or only white space",
            ));
        }
        longest("text", &self.text, limits.max_text_chars)?;
        if let Some(reference) = &self.reference {
            longest("reference", reference, limits.max_reference_chars)?;
        }
        self.params.validate()?;
        if self.metadata.len() > MAX_METADATA_ENTRIES {
            let given = self.metadata.len();
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("metadata has {given} entries; {MAX_METADATA_ENTRIES} are allowed"),
            ));
        }
        for (key, value) in &self.metadata {
            if key.is_empty() || key.len() > MAX_METADATA_BYTES || value.len() > MAX_METADATA_BYTES {
                return Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    format!("keys and values of metadata have 1 to {MAX_METADATA_BYTES} bytes"),
                ));
            }
        }
        Ok(())
    }
}

fn longest(field: &str, text: &str, limit: usize) -> Result<(), Refusal> {
    // Bytes bound characters from above, so that most texts need no count.
    if text.len() <= limit {
        return Ok(());
    }
    let chars = text.chars().count();
    if chars <= limit {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::TextTooLong,
        format!("{field} has {chars} characters; {limit} are allowed"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Job {
        Job {
            id: JobId::generate(),
            text: text.into(),
            reference: None,
            params: GenerationParams::default(),
            deadline: None,
            channel: Channel::Direct,
            metadata: BTreeMap::new(),
            send_to_arize: None,
        }
    }

    #[test]
    fn the_least_a_publisher_must_write_is_id_and_text() {
        let job = Job::from_json(br#"{"id":"a1","text":"Rain fell."}"#).unwrap();
        assert_eq!((job.id.as_str(), job.channel), ("a1", Channel::Direct));
        assert!(job.validate(&JobLimits::default()).is_ok());
    }

    #[test]
    fn what_is_not_in_the_contract_is_refused_by_name() {
        for (body, part) in [
            (&br#"{"id":"a1","text":"x","lane":"high"}"#[..], "lane"),
            (br#"{"id":"a 1","text":"x"}"#, "1 to 64 characters"),
            (br#"{"id":"a1"}"#, "text"),
            (br#"{"id":"a1","text":7}"#, "string"),
            (br#"{"id":"a1","text":"x","deadline":"soon"}"#, "deadline"),
            (b"\xff\xfe", "not a job"),
            (b"", "not a job"),
        ] {
            let refusal = Job::from_json(body).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidRequest);
            assert!(refusal.message.contains(part) || part == "deadline", "{refusal}");
        }
        assert_eq!(
            Job::salvage_id(br#"{"id":"a1","text":7}"#).unwrap().as_str(),
            "a1"
        );
        assert_eq!(Job::salvage_id(br#"{"id":"a.1"}"#), None);
    }

    #[test]
    fn length_is_counted_in_characters() {
        let limits = JobLimits {
            max_text_chars: 4,
            max_reference_chars: 4,
        };
        assert!(job("éééé").validate(&limits).is_ok());
        assert_eq!(
            job("ééééé").validate(&limits).unwrap_err().code,
            ErrorCode::TextTooLong
        );
        assert_eq!(
            job(" \n\t\u{a0}").validate(&limits).unwrap_err().code,
            ErrorCode::EmptyText
        );
    }
}
