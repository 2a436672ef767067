use precis_engine::{EngineOptions, GenerateRequest, GenerationParams, ModelSource};
use precis_runtime::clock;
use serde_json::json;

use super::*;

/// The embedded model on one thread, so that all requests share one decoding batch.
fn engine() -> Arc<Engine> {
    let options = EngineOptions {
        threads: 1,
        ..EngineOptions::default()
    };
    Arc::new(Engine::load(&ModelSource::Embedded, &options).unwrap())
}

fn request(engine: &Engine, text: &str, beams: usize, tokens: usize) -> GenerateRequest {
    let params = GenerationParams {
        num_beams: beams,
        min_new_tokens: tokens,
        max_new_tokens: tokens,
        ..engine.default_params().clone()
    };
    GenerateRequest::new(engine.tokenize(text).unwrap(), params)
}

fn job() -> Job {
    serde_json::from_value(json!({"id": "a", "text": "Rain fell."})).unwrap()
}

/// Returns the outcome of a job of 512 tokens that `end` stops after some of them. Checks that another request in the
/// same batch keeps its result.
async fn outcome_when_stopped_midway(end: impl FnOnce(&StopSignals)) -> InferenceOutcome {
    let engine = engine();
    let short = request(&engine, "Snow fell over the town on Monday.", 2, 12);
    let alone = engine.submit(&short).unwrap().result().await.unwrap();

    let long = request(&engine, "Rain fell over the hills on Monday.", 8, 512);
    let (progress, mut tokens) = mpsc::channel(8);
    let stop = StopSignals::default();
    let generation = engine.submit(&long).unwrap();
    // The future owns the sender: the receiver below must end with it.
    let work = async move { complete(generation, &progress, || {}).await };
    let job = job();
    let neighbour = async {
        assert!(tokens.recv().await.unwrap().len() < 512);
        let neighbour = engine.submit(&short).unwrap();
        end(&stop);
        neighbour.result().await.unwrap()
    };
    let (outcome, neighbour) = tokio::join!(until_stopped(&job, &stop, work), neighbour);
    assert_eq!((neighbour.ids, neighbour.text), (alone.ids, alone.text));
    // Another request runs some steps; by then the eight beams have left the batch.
    engine.submit(&short).unwrap().result().await.unwrap();
    assert!(engine.load_now().rows <= 2, "{:?}", engine.load_now());
    outcome
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_batch_and_its_neighbour_finishes() {
    let outcome = outcome_when_stopped_midway(|stop| stop.cancelled.cancel()).await;
    assert!(matches!(&outcome, InferenceOutcome::Cancelled(refusal) if refusal.code == ErrorCode::Cancelled));
}

#[tokio::test]
async fn a_job_leaves_the_batch_at_the_drain_deadline() {
    let outcome = outcome_when_stopped_midway(|stop| stop.drain_deadline.cancel()).await;
    assert!(matches!(outcome, InferenceOutcome::Interrupted(_)));
}

#[tokio::test]
async fn a_job_whose_lease_lapsed_leaves_the_batch_and_is_retried() {
    let outcome = outcome_when_stopped_midway(|stop| stop.lapsed.cancel()).await;
    assert!(
        matches!(&outcome, InferenceOutcome::Failed(refusal) if refusal.code == ErrorCode::InferenceFailed)
    );
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_it_started_is_not_run() {
    let stop = StopSignals::default();
    stop.cancelled.cancel();
    let work = async { panic!("the job must not run") };
    let outcome = until_stopped(&job(), &stop, work).await;
    assert!(matches!(outcome, InferenceOutcome::Cancelled(_)));
}

#[tokio::test]
async fn a_finished_job_succeeds_at_its_deadline_and_an_unfinished_one_expires() {
    let mut job = job();
    job.deadline = Some(clock::now());
    let engine = engine();
    let generated = engine
        .submit(&request(&engine, "Rain fell.", 2, 4))
        .unwrap()
        .result()
        .await
        .unwrap();
    let stop = StopSignals::default();
    let outcome = until_stopped(&job, &stop, async { Ok(Box::new(generated)) }).await;
    assert!(matches!(outcome, InferenceOutcome::Generated(_)));
    let outcome = until_stopped(&job, &stop, std::future::pending()).await;
    assert!(
        matches!(&outcome, InferenceOutcome::Expired(refusal) if refusal.code == ErrorCode::DeadlineExceeded)
    );
}
