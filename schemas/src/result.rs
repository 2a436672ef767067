//! The completion record of a job (version 1): the single source of truth about its end.
//!
//! The worker publishes it on `results.v1.<job_id>` so that the first one wins. The API shows a client
//! its view of it, the monitor turns it into a row. Readers ignore fields that they don't know.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::BatchRef;
use crate::callback::Callback;
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
    Outcome {
        /// There is a summary.
        Succeeded = "succeeded",
        /// There is an error.
        Failed = "failed",
        /// The client cancelled it.
        Cancelled = "cancelled",
        /// Its deadline passed first.
        Expired = "expired",
    }
}

/// Which model wrote the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRef {
    /// Name under which it is served: the token in the job's subject.
    pub served_as: Token,
    /// The model's own name, such as `precis-mini` or `google/flan-t5-small`.
    pub name: String,
    /// Which weights: a hub commit, or the start of the weights' SHA-256.
    pub revision: String,
}

/// Who did the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRef {
    /// The worker's id.
    pub id: Token,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
}

/// Sizes of what went in and came out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sizes {
    /// Characters of the text.
    pub text_chars: u64,
    /// Tokens of the text that the model read, prompt and end token included.
    pub text_tokens: u64,
    /// Tokens of the text that were cut off because the model reads no more.
    pub truncated_tokens: u64,
    /// Parts that a long text was split into (`params.long_text = map_reduce`), of all levels; 0 when it was read whole.
    #[serde(skip_serializing_if = "is_zero")]
    pub parts: u64,
    /// Characters of the summary.
    pub summary_chars: u64,
    /// Tokens that the model wrote.
    pub summary_tokens: u64,
    /// Characters of the reference; 0 without one.
    pub reference_chars: u64,
    /// Jobs in the batch.
    pub batch_size: u64,
    /// Share of the batch's encoder positions that were padding, 0 to 1.
    pub padding_ratio: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timings {
    /// From the stream taking the job to a worker receiving it.
    pub queue_ms: f64,
    /// From the worker receiving it to its batch being started.
    pub batch_wait_ms: f64,
    /// Text to tokens.
    pub tokenize_ms: f64,
    /// The encoder, for the whole batch.
    pub encode_ms: f64,
    /// The decoder, for the whole batch up to the end of this job.
    pub decode_ms: f64,
    /// From the stream taking the job to this record being written.
    pub total_ms: f64,
}

/// How a job ended, with everything that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    /// The job.
    pub id: JobId,
    /// Its sequence in the stream `JOBS`.
    pub job_sequence: u64,
    /// What was to be done.
    pub task: Task,
    /// With which priority.
    pub lane: Lane,
    /// On whose account.
    pub tenant: Token,
    /// By which way it came in.
    pub channel: Channel,
    /// How it ended.
    pub outcome: Outcome,
    /// The summary, when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What was wrong, when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// The text that was to be summarized; empty when the message could not be read.
    #[serde(default)]
    pub text: String,
    /// The human's summary, when one came with the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Scores of the summary against the reference, when the task was to score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// The batch that the job is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRef>,
    /// The model that was asked for or used; none when no model was involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The worker that did it; none when it ended without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerRef>,
    /// Parameters as they were used, defaults filled in.
    #[serde(default)]
    pub params: GenerationParams,
    /// Sizes.
    #[serde(default)]
    pub sizes: Sizes,
    /// Times.
    #[serde(default)]
    pub timings: Timings,
    /// How often the job had been delivered, this time included.
    pub attempt: u64,
    /// When the stream took the job.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub submitted_at: Timestamp,
    /// When a worker received it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When this record was written.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub finished_at: Timestamp,
    /// The publisher's notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Vectors of the texts, where the worker is configured to give them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<Embeddings>,
    /// As the job says: whether this is forwarded to Arize and Phoenix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_to_arize: Option<bool>,
    /// As the job says: where this is to be posted.
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
            reference: None,
            scores: None,
            batch: None,
            model: None,
            worker: None,
            params: GenerationParams::default(),
            sizes: Sizes::default(),
            timings: Timings {
                queue_ms: millis_between(submitted_at, started_at.unwrap_or(finished_at)),
                total_ms: millis_between(submitted_at, finished_at),
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

    /// Adds the job's text, reference, parameters, metadata, and everything else that a result repeats, with their sizes.
    #[must_use]
    pub fn with_job(mut self, job: &Job) -> Self {
        let chars = |text: &str| text.chars().count() as u64;
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

    /// Whether this result says nothing of the job that stands, or stood, at `sequence` of `JOBS`: an earlier job of the
    /// same id was cancelled, and its publisher has submitted the id again.
    ///
    /// Such a result gives way to that of the later job. Any other is final for its id, whoever publishes it again.
    pub fn is_superseded_by(&self, sequence: u64) -> bool {
        self.outcome == Outcome::Cancelled && self.job_sequence < sequence
    }
}
