//! Stage 7: builds the result of a job.

use precis_engine::Generated;
use precis_runtime::clock;
use precis_schemas::embedding::Embeddings;
use precis_schemas::error_code::Refusal;
use precis_schemas::result::{ReportedDelivery, Timings};
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
        if let Some(generated) = generated {
            add_generated(&mut result, generated, &request.params);
        }
        self.add_stages(&mut result.timings, request.tokenize_ms, inference);
        result
    }

    /// Splits the time since the worker received the job into stages. The last stage that the job reached gets what
    /// the others leave, so the stages add up to the whole.
    fn add_stages(&self, timings: &mut Timings, tokenize_ms: f64, inference: &Inference) {
        let received_at = self.delivery.received_at;
        let mut left = timings.batch_wait_ms;
        let mut take = |millis: f64| {
            let part = millis.clamp(0.0, left);
            left -= part;
            part
        };
        timings.tokenize_ms = take(tokenize_ms);
        if let InferenceOutcome::Generated(generated) = &inference.outcome {
            let submitted = time::millis_between(received_at, inference.submitted_at);
            let [wait, encode] =
                [generated.timings.wait, generated.timings.encode].map(|time| time.as_secs_f64() * 1e3);
            timings.batch_wait_ms = take(submitted - tokenize_ms + wait);
            timings.encode_ms = take(encode);
            timings.decode_ms = left;
        } else if let Some(started_at) = inference.started_at {
            // Nobody measured how long the encoder took.
            timings.batch_wait_ms = take(time::millis_between(received_at, started_at) - tokenize_ms);
            timings.decode_ms = left;
        } else {
            timings.batch_wait_ms = left;
        }
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
        // A job that does not reach the model only waits.
        result.timings.batch_wait_ms = result.timings.total_ms - result.timings.queue_ms;
        result
    }
}

fn add_generated(result: &mut JobResult, generated: &Generated, params: &GenerationParams) {
    let summary = summary_of(&generated.text, params);
    result.sizes.summary_chars = chars(&summary);
    result.sizes.summary_tokens = generated.ids.len() as u64;
    result.summary = Some(summary);
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};
    use precis_schemas::error_code::ErrorCode;

    use super::*;

    const RESULT: &str = include_str!("../../../schemas/wire/v1/result.succeeded.json");

    /// Returns the stages of a job that was in the queue for `queued` and in the worker for a second, of which
    /// tokenizing took 100 ms. The engine got it after 300 ms.
    fn stages(
        queued: i64,
        inference: impl FnOnce(Timestamp) -> (InferenceOutcome, Option<Timestamp>),
    ) -> Timings {
        let received_at = clock::now() - SignedDuration::from_secs(1);
        let delivery = Delivery {
            sequence: 1,
            attempt: 1,
            hand_backs: 0,
            submitted_at: received_at - SignedDuration::from_millis(queued),
            received_at,
            trace: None,
            fetch_span: None,
        };
        let known: JobResult = serde_json::from_str(RESULT).unwrap();
        let signature = Signature {
            model: known.model.unwrap(),
            worker: known.worker.unwrap(),
        };
        let results = ResultBuilder {
            delivery: &delivery,
            signature: &signature,
        };
        let mut timings = results.base(&known.id, None, None).timings;
        let (outcome, started_at) = inference(received_at);
        let inference = Inference {
            outcome,
            submitted_at: received_at + SignedDuration::from_millis(300),
            started_at,
            chunks: None,
        };
        results.add_stages(&mut timings, 100.0, &inference);
        timings
    }

    fn generated(wait: u64, encode: u64, decode: u64) -> InferenceOutcome {
        let [wait, encode, decode] = [wait, encode, decode].map(Duration::from_millis);
        InferenceOutcome::Generated(Box::new(Generated {
            text: "It rained.".into(),
            ids: vec![1],
            score: 0.0,
            finish: precis_engine::FinishReason::Eos,
            alternatives: Vec::new(),
            seed: None,
            embedding: [].into(),
            timings: precis_engine::Timings { wait, encode, decode },
            steps: 1,
            reused_encoder: false,
        }))
    }

    fn sum(timings: &Timings) -> f64 {
        let Timings {
            queue_ms,
            batch_wait_ms,
            tokenize_ms,
            encode_ms,
            decode_ms,
            ..
        } = timings;
        queue_ms + batch_wait_ms + tokenize_ms + encode_ms + decode_ms
    }

    fn rounded(timings: &Timings) -> [f64; 3] {
        [timings.tokenize_ms, timings.batch_wait_ms, timings.encode_ms].map(f64::round)
    }

    #[test]
    fn stages_add_up_to_the_whole_and_none_is_counted_twice() {
        let expired = || InferenceOutcome::Expired(Refusal::new(ErrorCode::DeadlineExceeded, "too late"));
        let ended = stages(50, |_| (generated(40, 60, 500), None));
        assert_eq!(rounded(&ended), [100.0, 240.0, 60.0]);
        // The engine's clock says more than there was.
        let long = stages(50, |_| (generated(40, 5_000, 9_000), None));
        assert_eq!(rounded(&long)[..2], [100.0, 240.0]);
        let started = stages(0, |at| (expired(), Some(at + SignedDuration::from_millis(700))));
        assert_eq!(rounded(&started), [100.0, 600.0, 0.0]);
        let waiting = stages(0, |_| (expired(), None));
        assert_eq!(rounded(&waiting)[2], 0.0);
        assert_eq!(waiting.decode_ms, 0.0);
        // The server's clock is ahead of the worker's.
        let ahead = stages(-400, |_| (generated(40, 60, 500), None));
        for timings in [ended, long, started, waiting, ahead] {
            assert!((sum(&timings) - timings.total_ms).abs() < 0.001, "{timings:?}");
            assert!(timings.total_ms > 999.0, "{timings:?}");
        }
    }
}
