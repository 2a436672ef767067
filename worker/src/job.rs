//! Takes a job from its text to its settlement, whether it came from NATS or from memory.

use std::sync::Arc;

use precis_engine::Engine;
use precis_runtime::clock;
use precis_runtime::config::EmbeddingTexts;
use precis_schemas::dead::DeadLetter;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::event::Progress;
use precis_schemas::worker_consumers::MAX_FAILED_ATTEMPTS;
use precis_schemas::{JobResult, Outcome, Task, Token};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::delivery::Delivery;
use crate::metrics;
use crate::model::{ServedModel, Signature};
use crate::pace::PaceMeter;
use crate::progress::{self, ProgressSink};
use crate::settlement::Settlement;
use crate::stages::decode::{AcceptedJob, RejectedMessage};
use crate::stages::embed::embed;
use crate::stages::infer::{Inference, InferenceOutcome, StopSignals, infer};
use crate::stages::request::ModelRequest;
use crate::stages::result::ResultBuilder;
use crate::stages::score::add_scores;
use crate::stages::tokenize::tokenize;
use crate::tenant_slots::TenantSlots;

/// Runs jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobRunner {
    /// Id of the worker, for progress events.
    pub worker: Token,
    /// Measures the pace of the worker.
    pub meter: PaceMeter,
    /// Which texts get an embedding.
    pub embeddings: EmbeddingTexts,
    /// Bounds the jobs whose scores are computed at once.
    pub scoring: TenantSlots,
    /// Whether the queue can deliver a job again. Without redelivery, every job is settled with a result.
    pub redelivers: bool,
}

/// What one job runs with.
pub struct RunContext {
    /// The model.
    pub model: Arc<ServedModel>,
    /// Ends the job early.
    pub stop: StopSignals,
    /// Number of jobs in the engine, this one included.
    pub in_flight: usize,
    /// The job's share of the engine, released as soon as the engine is done with it.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl JobRunner {
    /// Runs a job and returns its settlement.
    pub async fn run(
        &self,
        accepted: &AcceptedJob,
        delivery: &Delivery,
        context: RunContext,
        progress: &impl ProgressSink,
    ) -> Settlement {
        let (job, model) = (&accepted.job, &*context.model);
        let results = ResultBuilder {
            delivery,
            signature: &model.signature,
        };
        if job.summary.is_some() {
            let result = results.with_own_summary(accepted);
            // The job keeps its permit while it waits, so that a worker fetches no more than it can score.
            return Settlement::answer(self.score(result, job.stemmed, context.permit).await);
        }
        let tokenized = match tokenize(&model.engine, &job.text).await {
            Ok(tokenized) => tokenized,
            Err(reason) => return Settlement::answer(results.refused(accepted, Outcome::Failed, reason)),
        };
        let request = ModelRequest::new(job, tokenized, model);
        let inference = self.infer(accepted, delivery, &request, &context, progress).await;
        let embeddings = match &inference.outcome {
            InferenceOutcome::Generated(generated) => {
                embed(
                    &model.engine,
                    self.embeddings,
                    &job.id,
                    &request.generate.encoded,
                    generated,
                    &request.params,
                )
                .await
            }
            _ => None,
        };
        drop(context.permit);
        match &inference.outcome {
            InferenceOutcome::Interrupted(_) if self.redelivers => return Settlement::HandBack,
            InferenceOutcome::Failed(reason)
                if self.redelivers && delivery.counted_attempt() < MAX_FAILED_ATTEMPTS =>
            {
                return Settlement::Retry(reason.clone());
            }
            _ => {}
        }
        let result = results.inferred(accepted, &request, &inference, embeddings, context.in_flight);
        let result = self.score(result, job.stemmed, None).await;
        finish(accepted, delivery, result, inference.outcome)
    }

    /// Adds scores to the result of a `score` job, once its tenant has a slot. Releases the permit then.
    async fn score(
        &self,
        result: JobResult,
        stemmed: bool,
        permit: Option<OwnedSemaphorePermit>,
    ) -> JobResult {
        if result.task != Task::Score {
            return result;
        }
        let _slot = self.scoring.acquire(&result.tenant).await;
        drop(permit);
        add_scores(result, stemmed).await
    }

    /// Runs inference, reports its progress and measures its time.
    async fn infer(
        &self,
        accepted: &AcceptedJob,
        delivery: &Delivery,
        request: &ModelRequest,
        context: &RunContext,
        sink: &impl ProgressSink,
    ) -> Inference {
        let started = Progress {
            id: accepted.job.id.clone(),
            attempt: delivery.attempt,
            worker: self.worker.clone(),
            started_at: delivery.received_at,
            job_sequence: Some(delivery.sequence),
            part: None,
            text: None,
        };
        let engine: &Arc<Engine> = &context.model.engine;
        let (sender, tokens) = mpsc::channel::<Arc<[u32]>>(1);
        let running = self.meter.start();
        let (inference, ()) = tokio::join!(
            infer(engine, &accepted.job, request, &context.stop, sender),
            progress::report(sink, engine, started, tokens),
        );
        metrics::job_inferred(context.in_flight, running.elapsed().as_secs_f64());
        if matches!(
            inference.outcome,
            InferenceOutcome::Generated(_) | InferenceOutcome::Failed(_)
        ) {
            running.finish(request.input_tokens());
        }
        inference
    }
}

/// Settles a job with its result. A job that failed for the last time gets a dead letter too.
fn finish(
    accepted: &AcceptedJob,
    delivery: &Delivery,
    result: JobResult,
    outcome: InferenceOutcome,
) -> Settlement {
    let dead_letter = match outcome {
        InferenceOutcome::Failed(reason) => {
            let subject = accepted.subject.to_string();
            let body = serde_json::to_vec(&accepted.job).unwrap_or_default();
            Some(Box::new(dead_letter(subject, &body, reason, delivery)))
        }
        _ => None,
    };
    Settlement::Finish {
        result: Some(Box::new(result)),
        dead_letter,
    }
}

/// Settles a job that was delivered too often: it may have ended the process of every worker that ran it.
pub fn give_up(accepted: &AcceptedJob, delivery: &Delivery, signature: &Signature) -> Settlement {
    let deliveries = delivery.counted_attempt() - 1;
    let reason = Refusal::new(
        ErrorCode::TooManyAttempts,
        format!("the job was delivered {deliveries} times, and no worker finished it"),
    );
    let result = ResultBuilder { delivery, signature }.refused(accepted, Outcome::Failed, reason.clone());
    finish(accepted, delivery, result, InferenceOutcome::Failed(reason))
}

/// Settles a message that was rejected. One that is not a job gets a dead letter.
pub fn reject(message: RejectedMessage, delivery: &Delivery, signature: &Signature) -> Settlement {
    let result = ResultBuilder { delivery, signature }.rejected(&message);
    let dead_letter = message.job.is_none().then(|| {
        let RejectedMessage {
            raw_subject,
            raw_body,
            reason,
            ..
        } = message;
        Box::new(dead_letter(raw_subject, &raw_body, reason, delivery))
    });
    Settlement::Finish {
        result: result.map(Box::new),
        dead_letter,
    }
}

fn dead_letter(subject: String, body: &[u8], reason: Refusal, delivery: &Delivery) -> DeadLetter {
    let Delivery {
        sequence,
        attempt,
        submitted_at,
        ..
    } = *delivery;
    DeadLetter::new(
        sequence,
        subject,
        body,
        reason,
        attempt,
        submitted_at,
        clock::now(),
    )
}
