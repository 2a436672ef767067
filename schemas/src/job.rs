//! A job as its publisher writes it (version 1): the body of a message on [`JobSubject`](crate::JobSubject).
//!
//! Model, lane, task and tenant are only in the subject. The submission time is the time at which the stream stored the
//! message.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::BatchRef;
use crate::callback::Callback;
use crate::decode_error::describe_field;
use crate::error_code::{ErrorCode, Refusal};
use crate::ids::JobId;
use crate::params::GenerationParams;
use crate::salvage;
use crate::strict_json;
use crate::subject::{Task, named};

named! {
    /// The interface through which a job came.
    #[derive(Default)]
    Channel as "the channel" {
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
        /// Published by `precis-producer`.
        Batch = "batch",
        /// A prediction made elsewhere and only logged here.
        Other = "other",
    }
}

/// A text to summarize, or a summary to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Id, chosen by the publisher. The result appears on `results.v1.<id>`.
    pub id: JobId,
    /// The text to summarize. It may be empty if `summary` is set.
    pub text: String,
    /// A human summary. The monitor scores the model's summary against it. The task `score` requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Only for the task `score`: the summary to score. Without it, the model first summarizes `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Only for the task `score`: compare stems (Porter's, as in `rouge-score`) instead of words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stemmed: bool,
    /// The batch of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRef>,
    /// Generation parameters.
    #[serde(default)]
    pub params: GenerationParams,
    /// The job expires at this time if it has not ended. Queue time counts.
    #[serde(
        default,
        deserialize_with = "crate::time::deserialize_deadline",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deadline: Option<Timestamp>,
    /// The interface through which the job came.
    #[serde(default)]
    pub channel: Channel,
    /// The publisher's notes. The result and the row repeat them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Always (`true`) or never (`false`) forward the result to Arize and Phoenix, if the deployment uses them. By
    /// default, the deployment's sampling rate decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_to_arize: Option<bool>,
    /// The receiver of the job's webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
}

/// Limits of a job, enforced by gateways and workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobLimits {
    /// Maximum length of a text, in characters.
    pub max_text_chars: usize,
    /// Maximum length of a reference, in characters.
    pub max_reference_chars: usize,
    /// Maximum number of entries in [`Job::metadata`].
    pub max_metadata_entries: usize,
    /// Maximum length of a key or value in [`Job::metadata`], in bytes.
    pub max_metadata_bytes: usize,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            max_text_chars: 200_000,
            max_reference_chars: 20_000,
            max_metadata_entries: 16,
            max_metadata_bytes: 512,
        }
    }
}

impl Job {
    /// Decodes a job from a message body.
    ///
    /// # Errors
    /// A refusal with [`ErrorCode::InvalidRequest`] that says where the body violates the contract.
    pub fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        strict_json::from_slice(body).map_err(|error| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!("not a job of version 1: {}", describe_field::<Self>(body, &error)),
            )
        })
    }

    /// Returns the id in a malformed body, so that the failure can be published under it. Other fields may have any
    /// content, even bytes that are no text, and the body may be cut off after the id.
    pub fn salvage_id(body: &[u8]) -> Option<JobId> {
        salvage::id_of(body)
    }

    /// Checks everything that does not depend on the model. `task` is that of the job's subject.
    ///
    /// # Errors
    /// The first refusal that applies: an empty or too long text, an invalid parameter, too much metadata, or a field
    /// that does not belong to the task.
    pub fn validate(&self, task: Task, limits: &JobLimits) -> Result<(), Refusal> {
        self.validate_texts(task)?;
        longest("text", &self.text, limits.max_text_chars)?;
        if let Some(reference) = &self.reference {
            longest("reference", reference, limits.max_reference_chars)?;
        }
        if let Some(summary) = &self.summary {
            longest("summary", summary, limits.max_reference_chars)?;
        }
        self.params.validate()?;
        let (entries, bytes) = (limits.max_metadata_entries, limits.max_metadata_bytes);
        if self.metadata.len() > entries {
            let given = self.metadata.len();
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("metadata has {given} entries; {entries} are allowed"),
            ));
        }
        for (key, value) in &self.metadata {
            if key.is_empty() || key.len() > bytes || value.len() > bytes {
                // The key may be as long as an article.
                let shown: String = key.chars().take(32).collect();
                return Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    format!(
                        "metadata {shown:?} has a key of {} and a value of {} bytes; keys and values have at most {bytes}, and \
                         keys at least one",
                        key.len(),
                        value.len()
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Job {
    /// Checks that the texts that the task requires are present and not blank.
    fn validate_texts(&self, task: Task) -> Result<(), Refusal> {
        match (task, &self.summary, &self.reference) {
            (Task::Summarize, None, _) => not_blank("text", &self.text),
            (Task::Summarize, Some(_), _) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "summary is only for the task score",
            )),
            (Task::Score, _, None) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "the task score needs a reference",
            )),
            // An empty summary or reference scores 0.
            (Task::Score, Some(_), Some(_)) => Ok(()),
            (Task::Score, None, Some(_)) => not_blank("text", &self.text),
        }
    }
}

fn not_blank(field: &str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        let message = format!("{field} is empty or only white space");
        return Err(Refusal::new(ErrorCode::EmptyText, message));
    }
    Ok(())
}

fn longest(field: &str, text: &str, limit: usize) -> Result<(), Refusal> {
    // A text has at most as many characters as bytes, so most texts need no count.
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
            summary: None,
            stemmed: false,
            batch: None,
            params: GenerationParams::default(),
            deadline: None,
            channel: Channel::Direct,
            metadata: BTreeMap::new(),
            send_to_arize: None,
            callback: None,
        }
    }

    #[test]
    fn only_id_and_text_are_required() {
        let job = Job::from_json(br#"{"id":"a1","text":"Rain fell."}"#).unwrap();
        assert_eq!((job.id.as_str(), job.channel), ("a1", Channel::Direct));
        assert!(job.validate(Task::Summarize, &JobLimits::default()).is_ok());
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
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
    fn arrays_and_repeated_fields_are_refused() {
        for body in [
            &br#"["a1","Rain."]"#[..],
            br#"{"id":"a1","text":"x","params":[4]}"#,
            br#"{"id":"a1","text":"x","batch":["b",0]}"#,
            br#"{"id":"a1","text":"x","callback":["https://example.com"]}"#,
            br#"{"id":"a1","text":"x","metadata":{"a":"1","a":"2"}}"#,
        ] {
            assert!(Job::from_json(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        let job =
            Job::from_json(br#"{"id":"a1","text":"x","params":{"num_beams":4.0,"max_new_tokens":2e1}}"#);
        let params = job.unwrap().params;
        assert_eq!((params.num_beams, params.max_new_tokens), (Some(4), Some(20)));
    }

    #[test]
    fn length_is_counted_in_characters() {
        let limits = JobLimits {
            max_text_chars: 4,
            max_reference_chars: 4,
            ..JobLimits::default()
        };
        let code = |text| {
            let checked = job(text).validate(Task::Summarize, &limits);
            checked.err().map(|refusal| refusal.code)
        };
        assert_eq!(code("éééé"), None);
        assert_eq!(code("ééééé"), Some(ErrorCode::TextTooLong));
        assert_eq!(code(" \n\t\u{a0}"), Some(ErrorCode::EmptyText));
    }

    #[test]
    fn metadata_is_limited() {
        let limits = JobLimits {
            max_metadata_entries: 2,
            max_metadata_bytes: 3,
            ..JobLimits::default()
        };
        let check = |entries: &[(&str, &str)]| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let job = Job {
                metadata: entries.iter().map(own).collect(),
                ..job("x")
            };
            job.validate(Task::Summarize, &limits)
        };
        assert_eq!(check(&[("abc", ""), ("b", "abc")]), Ok(()));
        for bad in [
            &[("a", "b"), ("b", ""), ("c", "")][..],
            &[("abcd", "")],
            &[("a", "abcd")],
            &[("", "a")],
        ] {
            assert_eq!(check(bad).unwrap_err().code, ErrorCode::InvalidRequest, "{bad:?}");
        }
    }

    #[test]
    fn the_task_score_needs_a_reference_and_a_text_or_summary() {
        let check = |task, text: &str, summary: Option<&str>, reference: Option<&str>| {
            let job = Job {
                summary: summary.map(str::to_owned),
                reference: reference.map(str::to_owned),
                ..job(text)
            };
            let checked = job.validate(task, &JobLimits::default());
            checked.err().map(|refusal| refusal.code)
        };
        assert_eq!(check(Task::Score, "Rain fell.", None, Some("Rain.")), None);
        assert_eq!(check(Task::Score, "", Some("Rain."), Some("Rain.")), None);
        assert_eq!(check(Task::Score, "", Some(""), Some("Rain.")), None);
        assert_eq!(check(Task::Score, "Rain fell.", None, Some(" ")), None);
        for (text, summary, reference, code) in [
            ("Rain fell.", None, None, ErrorCode::InvalidRequest),
            ("", None, Some("Rain."), ErrorCode::EmptyText),
        ] {
            assert_eq!(check(Task::Score, text, summary, reference), Some(code));
        }
        let summarize = check(Task::Summarize, "Rain fell.", Some("Rain."), None);
        assert_eq!(summarize, Some(ErrorCode::InvalidRequest));
    }
}
