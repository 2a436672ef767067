//! Stage 7: builds the result of a job.

use precis_engine::Generated;
use precis_runtime::clock;
use precis_schemas::embedding::Embeddings;
use precis_schemas::error_code::Refusal;
use precis_schemas::result::ReportedDelivery;
use precis_schemas::{GenerationParams, Job, JobId, JobResult, JobSubject, Outcome, time};

use super::decode::{AcceptedJob, RejectedMessage};
use super::infer::{Inference, InferenceOutcome};
use super::request::ModelRequest;
use crate::delivery::Delivery;
use crate::model::{Signature, params_as_used};
use crate::summary::summary_of;

/// Builds the results of one delivery.
#[derive(Debug, Clone, Copy)]
pub struct ResultBuilder<'a> {
    /// The delivery.
    pub delivery: &'a Delivery,
    /// The names that the results carry.
    pub signature: &'a Signature,
}

impl ResultBuilder<'_> {
    /// Returns the result of a message that was rejected; none if it has no job id.
    pub fn rejected(&self, message: &RejectedMessage) -> Option<JobResult> {
        let id = message.id.as_ref()?;
        let mut result = self.base(id, message.job.as_ref(), message.subject.as_ref());
        result.outcome = message.outcome;
        result.error = Some(message.reason.clone());
        Some(result)
    }

    /// Returns the result of a job that ended before inference.
    pub fn refused(&self, accepted: &AcceptedJob, outcome: Outcome, reason: Refusal) -> JobResult {
        let mut result = self.accepted(accepted);
        result.outcome = outcome;
        result.error = Some(reason);
        result
    }

    /// Returns the result of a job that came with its summary, which needs no model.
    pub fn with_own_summary(&self, accepted: &AcceptedJob) -> JobResult {
        let mut result = self.accepted(accepted);
        result.outcome = Outcome::Succeeded;
        result.model = None;
        result.params = GenerationParams::default();
        result.summary.clone_from(&accepted.job.summary);
        result.sizes.summary_chars = result.summary.as_deref().map_or(0, chars);
        result
    }

    /// Returns the result of inference. `batch_size` is the number of jobs in the engine, this one included.
    pub fn inferred(
        &self,
        accepted: &AcceptedJob,
        request: &ModelRequest,
        inference: &Inference,
        embeddings: Option<Embeddings>,
        batch_size: usize,
    ) -> JobResult {
        let (outcome, generated, error) = match &inference.outcome {
            InferenceOutcome::Generated(generated) => (Outcome::Succeeded, Some(generated), None),
            InferenceOutcome::Expired(reason) => (Outcome::Expired, None, Some(reason)),
            InferenceOutcome::Cancelled(reason) => (Outcome::Cancelled, None, Some(reason)),
            InferenceOutcome::Interrupted(reason)
            | InferenceOutcome::Failed(reason)
            | InferenceOutcome::Invalid(reason) => (Outcome::Failed, None, Some(reason)),
        };
        let mut result = self.accepted(accepted);
        result.outcome = outcome;
        result.error = error.cloned();
        result.embeddings = embeddings;
        let seed = generated.and_then(|generated| generated.seed);
        result.params = params_as_used(&request.params, &request.generate.params, seed);
        let encoded = &request.generate.encoded;
        result.sizes.text_tokens = encoded.tokens as u64;
        result.sizes.truncated_tokens = encoded.truncated_tokens as u64;
        result.sizes.batch_size = batch_size as u64;
        if let Some(stats) = inference.chunks {
            result.sizes.parts = stats.chunks as u64;
            result.sizes.truncated_tokens = stats.truncated_tokens as u64;
        }
        result.timings.batch_wait_ms = time::millis_between(self.delivery.received_at, inference.started_at);
        result.timings.tokenize_ms = request.tokenize_ms;
        if let Some(generated) = generated {
            add_generated(&mut result, generated, &request.params);
        }
        result
    }

    fn accepted(&self, accepted: &AcceptedJob) -> JobResult {
        let job = &accepted.job;
        self.base(&job.id, Some(job), Some(&accepted.subject))
    }

    /// Returns a result that repeats the job and its subject, as far as they are known.
    fn base(&self, id: &JobId, job: Option<&Job>, subject: Option<&JobSubject>) -> JobResult {
        let delivery = ReportedDelivery {
            sequence: self.delivery.sequence,
            attempt: self.delivery.attempt,
            submitted_at: self.delivery.submitted_at,
            started_at: Some(self.delivery.received_at),
        };
        let mut result = JobResult::new(id.clone(), delivery, clock::now());
        if let Some(subject) = subject {
            result = result.with_subject(subject);
        }
        if let Some(job) = job {
            result = result.with_job(job);
        }
        result.model = Some(self.signature.model.clone());
        result.worker = Some(self.signature.worker.clone());
        result
    }
}

fn add_generated(result: &mut JobResult, generated: &Generated, params: &GenerationParams) {
    let summary = summary_of(&generated.text, params);
    result.sizes.summary_chars = chars(&summary);
    result.sizes.summary_tokens = generated.ids.len() as u64;
    result.timings.batch_wait_ms += generated.timings.wait.as_secs_f64() * 1e3;
    result.timings.encode_ms = generated.timings.encode.as_secs_f64() * 1e3;
    result.timings.decode_ms = generated.timings.decode.as_secs_f64() * 1e3;
    result.summary = Some(summary);
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}
