//! The result of a job (version 1): the single source of truth about its outcome.
//!
//! Workers publish it on `results.v1.<job_id>`; the first final result wins. The gateway returns a view of it, the
//! monitor stores it as a row. Readers ignore unknown fields.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::BatchRef;
use crate::callback::{Announcement, Callback, WebhookSubject};
use crate::embedding::Embeddings;
use crate::error_code::Refusal;
use crate::ids::JobId;
use crate::job::{Channel, Job};
use crate::params::GenerationParams;
use crate::scores::Scores;
use crate::subject::{JobSubject, Lane, Task, Token, named};
use crate::time::{millis_between, to_millis};

named! {
    /// How a job ended.
    Outcome as "the outcome" {
        /// It has a summary.
        Succeeded = "succeeded",
        /// It has an error.
        Failed = "failed",
        /// The client cancelled it.
        Cancelled = "cancelled",
        /// Its deadline passed first.
        Expired = "expired",
    }
}

/// The model of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRef {
    /// Name under which it is served, as in the job's subject.
    pub served_as: Token,
    /// The model's own name, such as `precis-mini` or `google/flan-t5-small`.
    pub name: String,
    /// Revision of the weights: a hub commit, or a prefix of their SHA-256.
    pub revision: String,
}

/// The worker of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRef {
    /// The worker's id.
    pub id: Token,
    /// Its device: `cpu`, `cuda` or `metal`.
    pub device: String,
}

/// Sizes of input and output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sizes {
    /// Length of the text, in characters.
    pub text_chars: u64,
    /// Tokens that the model read, including prompt and end token.
    pub text_tokens: u64,
    /// Tokens of the text beyond the model's maximum input.
    pub truncated_tokens: u64,
    /// Chunks of a long text on all levels (`params.long_text = map_reduce`); 0 if it was not split.
    #[serde(skip_serializing_if = "is_zero")]
    pub parts: u64,
    /// Length of the summary, in characters.
    pub summary_chars: u64,
    /// Tokens that the model generated.
    pub summary_tokens: u64,
    /// Length of the reference, in characters; 0 without one.
    pub reference_chars: u64,
    /// Jobs in the decoding batch.
    pub batch_size: u64,
    /// Fraction of the batch's encoder positions that were padding, 0 to 1.
    pub padding_ratio: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Durations of the stages, in milliseconds. The stages of a job add up to its total.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timings {
    /// From storing the job in the stream to a worker receiving it.
    pub queue_ms: f64,
    /// From the worker receiving it until the model began with it, without tokenizing. A job that never reached the
    /// model has only this stage in the worker.
    pub batch_wait_ms: f64,
    /// Tokenizing.
    pub tokenize_ms: f64,
    /// Encoding, together with the texts of the same prefill.
    pub encode_ms: f64,
    /// From the end of encoding to this result: decoding, and the embedding of the summary. A job with the same text
    /// and parameters as a running one has only the time since it joined that one.
    pub decode_ms: f64,
    /// From storing the job in the stream to this result.
    pub total_ms: f64,
}

/// How a job ended, with everything known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    /// The job.
    pub id: JobId,
    /// Its sequence in the stream `JOBS`.
    pub job_sequence: u64,
    /// Its task.
    pub task: Task,
    /// Its lane.
    pub lane: Lane,
    /// Its tenant.
    pub tenant: Token,
    /// The interface it came through.
    pub channel: Channel,
    /// How it ended.
    pub outcome: Outcome,
    /// The summary, if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The error, if it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// The job's text; empty if the message could not be decoded, or if `text_in_stream` is set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Whether the text is in the stream `TEXTS` instead, on `texts.v1.<tenant>.<id>.<job_sequence>`: its length in
    /// bytes as four bytes, little-endian, and one LZ4 block.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_in_stream: bool,
    /// The human summary that came with the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Scores of the summary against the reference, for the task `score`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// The batch of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRef>,
    /// The requested or used model; absent if no model was involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The worker; absent if the job ended without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerRef>,
    /// Generation parameters in effect, defaults included.
    #[serde(default)]
    pub params: GenerationParams,
    /// Sizes.
    #[serde(default)]
    pub sizes: Sizes,
    /// Durations.
    #[serde(default)]
    pub timings: Timings,
    /// Number of the delivery, starting at 1.
    pub attempt: u64,
    /// Time at which the stream stored the job.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub submitted_at: Timestamp,
    /// Time at which a worker received it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time of this result.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub finished_at: Timestamp,
    /// The publisher's notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Embeddings of the texts, if the worker is configured to return them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<Embeddings>,
    /// Copied from the job: whether to forward the result to Arize and Phoenix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_to_arize: Option<bool>,
    /// Copied from the job: the receiver of its webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
}

/// The delivery that a result reports on.
#[derive(Debug, Clone, Copy)]
pub struct ReportedDelivery {
    /// Sequence of the job in the stream `JOBS`.
    pub sequence: u64,
    /// Number of this delivery, starting at 1; 0 for a job that was never delivered.
    pub attempt: u64,
    /// When the stream stored the job.
    pub submitted_at: Timestamp,
    /// When a worker received the job.
    pub started_at: Option<Timestamp>,
}

impl JobResult {
    /// Returns a failed result without an error, subject or job; the caller adds them.
    ///
    /// The queue time ends when a worker received the job, or at `finished_at` if none did.
    pub fn new(id: JobId, delivery: ReportedDelivery, finished_at: Timestamp) -> Self {
        let ReportedDelivery {
            sequence,
            attempt,
            submitted_at,
            started_at,
        } = delivery;
        let queue_ms = millis_between(submitted_at, started_at.unwrap_or(finished_at));
        Self {
            id,
            job_sequence: sequence,
            task: Task::Summarize,
            lane: Lane::Normal,
            tenant: Token::sanitized("unknown"),
            channel: Channel::default(),
            outcome: Outcome::Failed,
            summary: None,
            error: None,
            text: String::new(),
            text_in_stream: false,
            reference: None,
            scores: None,
            batch: None,
            model: None,
            worker: None,
            params: GenerationParams::default(),
            sizes: Sizes::default(),
            timings: Timings {
                queue_ms,
                // The sum of two spans: the clocks of the server and the worker may differ.
                total_ms: queue_ms
                    + started_at.map_or(0.0, |started_at| millis_between(started_at, finished_at)),
                ..Timings::default()
            },
            attempt,
            submitted_at: to_millis(submitted_at),
            started_at,
            finished_at: to_millis(finished_at),
            metadata: BTreeMap::new(),
            embeddings: None,
            send_to_arize: None,
            callback: None,
        }
    }

    /// Adds lane, task and tenant.
    #[must_use]
    pub fn with_subject(mut self, subject: &JobSubject) -> Self {
        self.lane = subject.lane;
        self.task = subject.task;
        self.tenant.clone_from(&subject.tenant);
        self
    }

    /// Adds the job's text, reference, parameters, metadata, and everything else that a result repeats, with their
    /// sizes.
    #[must_use]
    pub fn with_job(mut self, job: &Job) -> Self {
        fn chars(text: &str) -> u64 {
            text.chars().count() as u64
        }
        self.sizes.text_chars = chars(&job.text);
        self.sizes.reference_chars = job.reference.as_deref().map_or(0, chars);
        self.text.clone_from(&job.text);
        self.reference.clone_from(&job.reference);
        self.params.clone_from(&job.params);
        self.channel = job.channel;
        self.batch.clone_from(&job.batch);
        self.metadata.clone_from(&job.metadata);
        self.send_to_arize = job.send_to_arize;
        self.callback.clone_from(&job.callback);
        self
    }

    /// Reports whether the job at `sequence` of `JOBS` supersedes this result: this result's job was cancelled, and its
    /// id was submitted again later. Any other result is final for its id.
    pub fn is_superseded_by(&self, sequence: u64) -> bool {
        self.outcome == Outcome::Cancelled && self.job_sequence < sequence
    }

    /// Removes the text from a record whose text is in the stream `TEXTS`.
    pub fn detach_text(&mut self) {
        self.text.clear();
        self.text_in_stream = true;
    }

    /// Puts the text from the stream `TEXTS` into the record.
    pub fn attach_text(&mut self, text: String) {
        self.text = text;
        self.text_in_stream = false;
    }

    /// Removes the text, the reference and the metadata, for a result that exceeds the server's size limit. The publisher
    /// of the job has them.
    pub fn remove_publisher_fields(&mut self) {
        self.text.clear();
        self.reference = None;
        self.metadata.clear();
    }

    /// Returns the announcement of the job's webhook; `None` if the job has no callback.
    pub fn announcement(&self, announced_at: Timestamp) -> Option<Announcement> {
        Some(Announcement {
            ended: WebhookSubject::Job {
                id: self.id.clone(),
                job_sequence: self.job_sequence,
            },
            tenant: self.tenant.clone(),
            callback: self.callback.clone()?,
            announced_at,
        })
    }
}
