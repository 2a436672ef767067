//! Tests of jobs: several texts, scores, cancellation and events.

use precis_runtime::clock;
use precis_schemas::rest::{ScoreReport, SubmittedBatch};

use super::*;
use crate::testing::result;

fn delete(id: &str) -> Request<Body> {
    Request::delete(format!("/v1/jobs/{id}"))
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn several_texts_become_jobs_of_one_batch() {
    let api = with_worker();
    let body = json!({"texts": ["a", "b"], "references": ["r", null], "metadata": {"k": "v"}});
    let mut request = submit(&body);
    request.headers_mut().insert("prefer", "wait=5".parse().unwrap());
    let answer = api.call(request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let batch: SubmittedBatch = serde_json::from_value(answer.body).unwrap();
    let summaries: Vec<_> = batch.jobs.iter().map(|job| job.summary.as_deref()).collect();
    assert_eq!(summaries, [Some("A"), Some("B")]);
    assert_eq!(batch.jobs[1].batch.as_ref().unwrap().id, batch.id);
    let jobs = api.queue.jobs.lock().unwrap().clone();
    assert_eq!(jobs[1].job.id.to_string(), format!("{}-1", batch.id));
    assert_eq!(
        (jobs[0].job.reference.as_deref(), jobs[1].job.reference.as_deref()),
        (Some("r"), None)
    );
}

#[tokio::test]
async fn pairs_are_scored_and_the_report_can_be_polled() {
    let api = with_worker();
    let body = json!({"stemmed": true, "pairs": [
        {"text": "rain", "reference": "r"},
        {"summary": "rain", "reference": "r"},
        {"text": "fail", "reference": "r"},
    ]});
    let answer = api.call(post("/v1/scores", body.to_string())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["pairs"][0]["bleu"], 50.0);
    let report: ScoreReport = serde_json::from_value(answer.body).unwrap();
    assert!(report.done && report.pairs[0].scores.unwrap().stemmed);
    assert!(report.pairs[2].error.is_some() && report.pairs[2].scores.is_none());
    assert_eq!(report.aggregate.as_ref().unwrap().count, 2);
    let jobs = api.queue.jobs.lock().unwrap().clone();
    assert_eq!(jobs[1].subject.to_string(), "jobs.v1.default.normal.score.public");
    assert_eq!(jobs[1].job.summary.as_deref(), Some("rain"));
    let again = api.call(get(&report.links.this)).await;
    assert_eq!(serde_json::from_value::<ScoreReport>(again.body).unwrap(), report);

    api.refused(get("/v1/scores/nobody"), 404, "job_not_found").await;
    for (pair, status, code) in [
        (json!({"reference": "r"}), 400, "invalid_request"),
        (json!({"text": "x"}), 400, "invalid_request"),
        (
            json!({"text": "x", "summary": "x", "reference": "r"}),
            400,
            "invalid_request",
        ),
        (json!({"text": " ", "reference": "r"}), 422, "empty_text"),
    ] {
        let body = json!({"pairs": [pair]}).to_string();
        api.refused(post("/v1/scores", body), status, code).await;
    }
    api.refused(post("/v1/scores", r#"{"pairs": []}"#), 422, "invalid_parameter")
        .await;
}

#[tokio::test]
async fn slow_scores_can_be_polled() {
    let api = api();
    let body = json!({"pairs": [{"text": "rain", "reference": "r"}]});
    let mut request = post("/v1/scores", body.to_string());
    request
        .headers_mut()
        .insert("prefer", "respond-async".parse().unwrap());
    let answer = api.call(request).await;
    assert_eq!((answer.status, answer.body["done"].as_bool()), (202, Some(false)));
    let path = answer.header("location").to_owned();
    let report = api.call(get(&path)).await;
    assert_eq!(report.body["pairs"][0]["status"], "queued");
    let job = api.queue.jobs.lock().unwrap()[0].job.id.clone();
    api.queue.store(result(job.as_str(), 1));
    assert_eq!(api.call(get(&path)).await.body["done"], true);
}

#[tokio::test]
async fn cancelling_is_idempotent_and_fails_for_an_ended_job() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    for _ in 0..2 {
        let answer = api.call(delete(&id)).await;
        assert_eq!(
            (answer.status, answer.body["status"].as_str()),
            (200, Some("cancelled")),
            "{}",
            answer.body
        );
    }
    assert_eq!(api.queue.sent_cancels.lock().unwrap().len(), 1);
    assert_eq!(*api.queue.done.lock().unwrap(), [1]);
    api.queue.has_worker.store(true, Ordering::Relaxed);
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let ended = api.refused(delete(&id), 409, "job_finished").await;
    assert_eq!(ended.body["job_status"], "succeeded");
    assert_eq!(ended.body["job_id"].as_str(), Some(&*id));
    api.refused(delete("never.99"), 404, "job_not_found").await;
    api.refused(delete("never"), 404, "job_not_found").await;
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_completes_though_its_client_disconnects() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let second = std::time::Duration::from_secs(1);
    *api.queue.removal_delay.lock().unwrap() = second;
    let request = api.router.clone().oneshot(delete(&id));
    assert!(tokio::time::timeout(second / 2, request).await.is_err());
    assert!(api.queue.done.lock().unwrap().is_empty());
    tokio::time::sleep(second).await;
    assert_eq!(*api.queue.done.lock().unwrap(), [1]);
    assert_eq!(api.queue.sent_cancels.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn cancelling_a_running_job_needs_its_sequence() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let (id, _) = id.split_once('.').unwrap();
    api.state.running().note(Progress {
        id: id.parse().unwrap(),
        attempt: 1,
        worker: Token::new("a worker", "w").unwrap(),
        started_at: clock::now(),
        job_sequence: None,
        part: None,
        text: None,
    });
    api.refused(delete(id), 503, "queue_unavailable").await;
    assert_eq!(api.call(delete(&format!("{id}.1"))).await.status, 200);
}

#[tokio::test]
async fn a_cancelled_id_can_be_submitted_again() {
    let api = api();
    api.call(submit(&json!({"text": "x"}))).await;
    let job = api.queue.jobs.lock().unwrap()[0].clone();
    let id = job.job.id.clone();
    api.call(delete(&format!("{id}.1"))).await;
    // The publisher chose the id and publishes it again.
    api.queue.jobs.lock().unwrap().push(job);
    let again = api.call(get(&format!("/v1/jobs/{id}.2"))).await;
    assert_eq!(again.body["status"], "queued", "{}", again.body);
    let first = api.call(get(&format!("/v1/jobs/{id}.1"))).await;
    assert_eq!(first.body["status"], "cancelled");
    let answer = api.call(delete(&format!("{id}.2"))).await;
    assert_eq!(answer.body["id"].as_str(), Some(&*format!("{id}.2")));
}

#[tokio::test]
async fn a_queued_job_expires_at_its_deadline() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let past = clock::now() - std::time::Duration::from_secs(5);
    api.queue.jobs.lock().unwrap()[0].job.deadline = Some(past);
    let view = api.call(get(&format!("/v1/jobs/{id}"))).await;
    assert_eq!(view.body["status"], "expired");
    assert_eq!(view.body["error"]["code"], "deadline_exceeded");
}

#[tokio::test(start_paused = true)]
async fn the_latest_timestamp_is_a_valid_deadline() {
    let api = api();
    let body = json!({"text": "x", "deadline": jiff::Timestamp::MAX.to_string()});
    let accepted = api.call(submit(&body)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let path = format!("/v1/jobs/{}", accepted.id());
    for path in [path.clone(), format!("{path}?wait=5")] {
        let shown = api.call(get(&path)).await;
        assert_eq!(
            (shown.status, shown.body["status"].as_str()),
            (200, Some("queued")),
            "{}",
            shown.body
        );
    }
}

#[tokio::test(start_paused = true)]
async fn accepted_texts_are_cancelled_though_the_client_disconnects() {
    let api = api();
    *api.queue.refuses_text.lock().unwrap() = Some((ErrorCode::QueueFull, "b".to_owned()));
    let second = std::time::Duration::from_secs(1);
    *api.queue.removal_delay.lock().unwrap() = second;
    let request = api.router.clone().oneshot(submit(&json!({"texts": ["a", "b"]})));
    assert!(tokio::time::timeout(second / 2, request).await.is_err());
    tokio::time::sleep(second).await;
    assert_eq!(*api.queue.done.lock().unwrap(), [1]);
    assert_eq!(api.queue.sent_cancels.lock().unwrap().len(), 1);
}

/// Parses a complete stream into (event, id, data).
fn events(text: &str) -> Vec<(String, String, Value)> {
    let event = |block: &str| {
        let field = |name: &str| {
            let prefix = format!("{name}: ");
            block
                .lines()
                .find_map(|line| line.strip_prefix(&prefix))
                .map(str::to_owned)
        };
        let data = serde_json::from_str(&field("data")?).ok()?;
        Some((field("event")?, field("id")?, data))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn events_report_states_texts_and_the_result_and_resume() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let job = api.queue.jobs.lock().unwrap()[0].job.id.clone();
    let open = |last: Option<&str>| {
        let mut request = get(&format!("/v1/jobs/{id}/events"));
        if let Some(last) = last {
            request
                .headers_mut()
                .insert("last-event-id", last.parse().unwrap());
        }
        tokio::spawn({
            let router = api.router.clone();
            async move {
                let response = router.oneshot(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
                let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
                String::from_utf8(body.to_vec()).unwrap()
            }
        })
    };
    let progress = |part: Option<u64>, text: Option<&str>| Progress {
        id: job.clone(),
        attempt: 1,
        worker: Token::new("a worker", "w").unwrap(),
        started_at: clock::now(),
        job_sequence: Some(1),
        part,
        text: text.map(str::to_owned),
    };
    let all = open(None);
    let later = open(Some("1.1"));
    let step = async || tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    step().await;
    for (part, text) in [
        (None, None),
        (Some(1), Some("Rain")),
        (Some(2), Some("Rain fell")),
    ] {
        api.state.running().note(progress(part, text));
        step().await;
    }
    api.queue.store(result(job.as_str(), 1));
    let all = events(&all.await.unwrap());
    let ids: Vec<_> = all
        .iter()
        .map(|(kind, id, _)| (kind.as_str(), id.as_str()))
        .collect();
    assert_eq!(
        ids,
        [
            ("state", "0.0"),
            ("state", "1.0"),
            ("text", "1.1"),
            ("text", "1.2"),
            ("result", "end")
        ]
    );
    assert_eq!(all[3].2["text"], "Rain fell");
    assert_eq!(all[4].2["status"], "succeeded");
    let later = events(&later.await.unwrap());
    let ids: Vec<_> = later.iter().map(|(_, id, _)| id.as_str()).collect();
    assert_eq!(ids, ["1.2", "end"]);

    let mut seen = get(&format!("/v1/jobs/{id}/events"));
    seen.headers_mut().insert("last-event-id", "end".parse().unwrap());
    assert_eq!(api.call(seen).await.status, 204);
    let mut bad = get(&format!("/v1/jobs/{id}/events"));
    bad.headers_mut().insert("last-event-id", "what".parse().unwrap());
    api.refused(bad, 400, "invalid_request").await;
    api.refused(get("/v1/jobs/never.9/events"), 404, "job_not_found")
        .await;
}

#[tokio::test]
async fn a_disconnected_event_stream_leaves_no_watcher() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let path = format!("/v1/jobs/{id}/events");
    let response = api.router.clone().oneshot(get(&path)).await.unwrap();
    let mut events = response.into_body().into_data_stream();
    let first = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
    assert!(first.starts_with(b"event: state"), "{first:?}");
    assert_eq!(
        (api.state.waiters().count(), api.state.running().watched()),
        (1, 1)
    );
    drop(events);
    // The stream's task ends at its next send.
    while api.state.waiters().count() + api.state.running().watched() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_text_within_its_limit_is_accepted_however_it_is_escaped() {
    let queue = Arc::new(FakeQueue::default());
    let limits = LimitsConfig::default();
    let chars = limits.max_text_chars;
    let state = limited_state_of(
        queue.clone(),
        &AccessConfig::default(),
        HttpConfig::default(),
        limits,
    );
    let api = api_of(queue, state);
    api.queue.has_worker.store(true, Ordering::Relaxed);
    for (escaped, text) in [("\\u96e8", "雨"), ("\\ud83c\\udf27", "🌧"), ("\\u0041", "A")] {
        let escaped = escaped.repeat(chars);
        let accepted = api
            .call(post("/v1/summaries", format!(r#"{{"text":"{escaped}"}}"#)))
            .await;
        assert_eq!(accepted.status, 202);
        let queued = api.queue.jobs.lock().unwrap().pop().unwrap();
        assert!(queued.job.text == text.repeat(chars));
        let articles = post("/invocations", format!(r#"{{"articles":["{escaped}"]}}"#));
        assert_eq!(api.call(articles).await.status, 200);
    }
    let longer = format!(r#"{{"text":"{}"}}"#, "\\u96e8".repeat(chars + 1));
    api.refused(post("/v1/summaries", longer), 422, "text_too_long")
        .await;
}
