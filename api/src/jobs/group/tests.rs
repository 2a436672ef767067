//! Tests of job groups.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use precis_schemas::{Channel, GenerationParams};

use super::*;
use crate::testing::{FakeQueue, result, state_of};

async fn group(state: &AppState, texts: &[&str]) -> JobGroup {
    let requests = texts.iter().map(|text| JobRequest {
        id: Some(text.parse().unwrap()),
        ..JobRequest::of_text(Channel::Api, (*text).to_owned(), GenerationParams::default())
    });
    let trace = TraceContext::begin();
    let submissions = prepare(state, &Caller::unrestricted(), "texts", requests, &trace).await;
    JobGroup::new(state, submissions.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_refused_job_cancels_the_rest_of_its_group_at_once() {
    let queue = Arc::new(FakeQueue::default());
    let state = state_of(queue.clone());
    *queue.refuses_text.lock().unwrap() = Some((ErrorCode::QueueFull, "b".to_owned()));
    let refused = group(&state, &["a", "b", "c"])
        .await
        .submit(&state)
        .await
        .unwrap_err();
    assert_eq!((refused.index, refused.refusal.code), (1, ErrorCode::QueueFull));
    assert_eq!(*queue.done.lock().unwrap(), [1, 2]);
    assert_eq!(queue.sent_cancels.lock().unwrap().len(), 2);
    assert_eq!(state.waiters().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_does_not_cancel_a_job_of_the_request_that_it_repeats() {
    let queue = Arc::new(FakeQueue::default());
    let state = state_of(queue.clone());
    let submit = async |texts: &[&str]| {
        let mut group = group(&state, texts).await;
        group.find_results(&state).await.unwrap();
        group.submit(&state).await
    };
    let first = submit(&["a"]).await.unwrap();
    *queue.refuses_text.lock().unwrap() = Some((ErrorCode::QueueFull, "c".to_owned()));
    let refused = submit(&["a", "b", "c"]).await.unwrap_err();
    assert_eq!(refused.refusal.code, ErrorCode::QueueFull);
    assert_eq!(first.handles()[0].sequence, Some(1));
    assert_eq!(*queue.done.lock().unwrap(), [2], "only `b` is cancelled");
}

#[tokio::test(start_paused = true)]
async fn results_come_in_the_order_of_the_request() {
    let queue = Arc::new(FakeQueue::default());
    let state = state_of(queue.clone());
    let mut submitted = group(&state, &["a", "b"]).await.submit(&state).await.unwrap();
    assert_eq!(submitted.handles()[1].to_string(), "b.2");
    queue.store(result("b", 2));
    let until = Instant::now() + Duration::from_secs(1);
    let ids = |results: Vec<Option<JobResult>>| -> Vec<_> {
        results
            .into_iter()
            .map(|result| result.map(|result| result.id.to_string()))
            .collect()
    };
    assert_eq!(
        ids(submitted.results(&state, until).await),
        [None, Some("b".to_owned())]
    );
}

#[tokio::test]
async fn a_job_with_a_result_is_not_published_again() {
    let queue = Arc::new(FakeQueue::default());
    let state = state_of(queue.clone());
    queue.store(result("a", 7));
    queue.has_worker.store(true, Ordering::Relaxed);
    let mut again = group(&state, &["a", "b"]).await;
    again.find_results(&state).await.unwrap();
    let mut submitted = again.submit(&state).await.unwrap();
    assert_eq!(submitted.handles()[0].to_string(), "a.7");
    let results = submitted
        .results(&state, Instant::now() + Duration::from_secs(1))
        .await;
    assert!(results.iter().all(Option::is_some));
    let published = queue.jobs.lock().unwrap().clone();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].job.id.as_str(), "b");
}
