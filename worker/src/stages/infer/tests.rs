use precis_engine::{EngineOptions, GenerateRequest, GenerationParams, ModelSource};
use precis_runtime::clock;
use serde_json::json;

use super::*;

/// The embedded model on one thread: all that it has in hand is one batch.
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

fn ends() -> Ends {
    Ends {
        hurry: CancellationToken::new(),
        cancelled: CancellationToken::new(),
    }
}

fn job() -> Job {
    serde_json::from_value(json!({"id": "a", "text": "Rain fell."})).unwrap()
}

/// How 512 tokens end when `end` is called as soon as some of them are written. A neighbour in their batch doesn't notice.
async fn ended_on_the_way(end: impl FnOnce(&Ends)) -> RowOutcome {
    let engine = engine();
    let short = request(&engine, "Snow fell over the town on Monday.", 2, 12);
    let alone = engine.submit(&short).unwrap().result().await.unwrap();

    let long = request(&engine, "Rain fell over the hills on Monday.", 8, 512);
    let (parts, mut told) = mpsc::channel(8);
    let ends = ends();
    let begun = engine.submit(&long).unwrap();
    // Owns the sender: where nothing is ever told, nobody waits for it.
    let work = async move { finished(begun, &parts).await };
    let job = job();
    let neighbour = async {
        assert!(told.recv().await.unwrap().len() < 512);
        let neighbour = engine.submit(&short).unwrap();
        end(&ends);
        neighbour.result().await.unwrap()
    };
    let (outcome, neighbour) = tokio::join!(first_end(&job, &ends, work), neighbour);
    assert_eq!((neighbour.ids, neighbour.text), (alone.ids, alone.text));
    // Whatever is decoded from now on, its eight beams are not among it.
    engine.submit(&short).unwrap().result().await.unwrap();
    assert!(engine.load_now().rows <= 2, "{:?}", engine.load_now());
    outcome
}

#[tokio::test]
async fn a_job_leaves_its_batch_when_it_is_cancelled_and_its_neighbour_is_written_to_the_end() {
    let outcome = ended_on_the_way(|ends| ends.cancelled.cancel()).await;
    assert!(matches!(&outcome, RowOutcome::Cancelled(refusal) if refusal.code == ErrorCode::Cancelled));
}

#[tokio::test]
async fn a_job_leaves_its_batch_when_the_worker_must_hurry() {
    let outcome = ended_on_the_way(|ends| ends.hurry.cancel()).await;
    assert!(matches!(outcome, RowOutcome::HandBack));
}

#[tokio::test]
async fn a_job_that_was_cancelled_on_its_way_is_not_begun() {
    let ends = ends();
    ends.cancelled.cancel();
    let work = async { panic!("nobody wants it") };
    let outcome = first_end(&job(), &ends, work).await;
    assert!(matches!(outcome, RowOutcome::Cancelled(_)));
}

#[tokio::test]
async fn what_is_done_counts_although_its_time_is_up_and_what_is_not_done_has_expired() {
    let mut job = job();
    job.deadline = Some(clock::now());
    let engine = engine();
    let generated = engine
        .submit(&request(&engine, "Rain fell.", 2, 4))
        .unwrap()
        .result()
        .await
        .unwrap();
    let outcome = first_end(&job, &ends(), async { Ok(Box::new(generated)) }).await;
    assert!(matches!(outcome, RowOutcome::Done(_)));
    let outcome = first_end(&job, &ends(), std::future::pending()).await;
    assert!(matches!(&outcome, RowOutcome::Expired(refusal) if refusal.code == ErrorCode::DeadlineExceeded));
}
