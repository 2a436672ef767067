//! Tests of idempotency keys.

use futures::future::join_all;

use super::*;

fn with_key(path: &str, body: &Value, key: &str) -> Request<Body> {
    let mut request = post(path, body.to_string());
    request
        .headers_mut()
        .insert("idempotency-key", key.parse().unwrap());
    request
}

#[tokio::test]
async fn the_same_key_and_body_return_the_same_job() {
    let api = api();
    let body = json!({"text": "x"});
    let all = (0..50).map(|_| api.call(with_key("/v1/summaries", &body, "\"k-1\"")));
    let answers = join_all(all).await;
    let first = answers[0].id();
    for answer in &answers {
        assert_eq!((answer.status, answer.id()), (202, first.clone()));
    }
    assert_eq!(api.queue.jobs.lock().unwrap().len(), 1);
    let replayed = answers
        .iter()
        .filter(|answer| answer.header("idempotent-replayed") == "true");
    assert_eq!(replayed.count(), 49);

    let other = with_key("/v1/summaries", &json!({"text": "y"}), "k-1");
    api.refused(other, 422, "idempotency_key_reused").await;
    // The order of fields and white space don't matter.
    let spaced = r#"{ "params": {}, "text": "x" }"#;
    let mut same = post("/v1/summaries", spaced);
    same.headers_mut()
        .insert("idempotency-key", "k-1".parse().unwrap());
    assert_eq!(api.call(same).await.id(), first);
    let bad = with_key("/v1/summaries", &body, "\"");
    api.refused(bad, 400, "invalid_request").await;
}

#[tokio::test]
async fn a_refused_request_releases_its_idempotency_key() {
    let api = api();
    let body = json!({"texts": ["x", "y"]});
    let invalid = with_key("/v1/summaries", &json!({"text": ""}), "k");
    api.refused(invalid, 422, "empty_text").await;
    let first = api.call(with_key("/v1/summaries", &body, "k")).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let again = api.call(with_key("/v1/summaries", &body, "k")).await;
    assert_eq!(again.body["jobs"], first.body["jobs"]);
    assert_eq!(again.body["id"], first.body["id"]);
    assert_eq!(api.queue.jobs.lock().unwrap().len(), 2);
    // If the queue refuses the jobs, another request may use the key.
    let refuse = |code| *api.queue.refuses_text.lock().unwrap() = Some((code, "full".to_owned()));
    refuse(ErrorCode::QueueFull);
    let full = || with_key("/v1/summaries", &json!({"texts": ["x", "full"]}), "f");
    api.refused(full(), 503, "queue_full").await;
    let other = with_key("/v1/summaries", &json!({"text": "other"}), "f");
    assert_eq!(api.call(other).await.status, 202);
    api.refused(full(), 422, "idempotency_key_reused").await;
}

#[tokio::test]
async fn a_repeated_request_never_finds_the_cancelled_jobs() {
    let api = api();
    let refuse =
        |code: Option<_>| *api.queue.refuses_text.lock().unwrap() = code.map(|code| (code, "b".to_owned()));
    let request = || with_key("/v1/summaries", &json!({"texts": ["a", "b"]}), "k");
    for _ in 0..2 {
        refuse(Some(ErrorCode::QueueUnavailable));
        api.refused(request(), 503, "queue_unavailable").await;
    }
    assert_eq!(*api.queue.done.lock().unwrap(), [1, 2], "`a` was cancelled twice");
    refuse(None);
    let accepted = api.call(request()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let ids: Vec<_> = accepted.body["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].as_str().unwrap())
        .collect();
    assert!(ids[0].ends_with(".3") && ids[1].ends_with(".4"), "{ids:?}");
    for id in ids {
        let shown = api.call(get(&format!("/v1/jobs/{id}"))).await;
        assert_eq!(shown.body["status"], "queued", "{}", shown.body);
    }
    // The documented size of a record, with its subject and the stream's overhead.
    assert!(
        api.queue.largest_record() + 150 < 512,
        "{}",
        api.queue.largest_record()
    );
}
