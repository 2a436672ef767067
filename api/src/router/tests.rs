//! The interface as a client sees it, on a queue in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use precis_schemas::event::Progress;
use precis_schemas::{Lane, Token, time};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::testing::{FakeQueue, state_of};

struct Api {
    queue: Arc<FakeQueue>,
    state: AppState,
    router: Router,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn id(&self) -> String {
        self.body["id"].as_str().unwrap().to_owned()
    }
}

fn api() -> Api {
    let queue = Arc::new(FakeQueue::default());
    let state = state_of(queue.clone());
    let readiness = Readiness::default();
    readiness.set(true);
    Api {
        queue,
        state: state.clone(),
        router: router(state, readiness),
    }
}

fn with_worker() -> Api {
    let api = api();
    api.queue.has_worker.store(true, Ordering::Relaxed);
    api
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .unwrap()
}

fn submit(body: &Value) -> Request<Body> {
    post("/v1/summaries", body.to_string())
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

impl Api {
    /// The answer; a refusal is checked to be a whole problem.
    async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_slice(&body)
                .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()),
        };
        assert!(!answer.header("x-request-id").is_empty());
        if answer.status >= 400 {
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let problem: precis_schemas::rest::Problem = serde_json::from_value(answer.body.clone()).unwrap();
            assert_eq!(problem.status, answer.status);
            assert_eq!(problem.kind, problem.code.doc_path());
            assert_eq!(problem.request_id.as_deref(), Some(answer.header("x-request-id")));
            assert_eq!(answer.status == 503, answer.headers.contains_key("retry-after"));
        }
        answer
    }

    async fn refused(&self, request: Request<Body>, status: u16, code: &str) -> Answer {
        let answer = self.call(request).await;
        assert_eq!(
            (answer.status, answer.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            answer.body
        );
        answer
    }
}

#[tokio::test]
async fn a_text_is_queued_and_found_again() {
    let api = api();
    let first = api.call(submit(&json!({"text": "Rain fell."}))).await;
    assert_eq!(first.status, 202);
    assert_eq!(first.header("retry-after"), "1");
    assert_eq!(first.header("location"), format!("/v1/jobs/{}", first.id()));
    assert_eq!(
        (first.body["status"].as_str(), first.body["position"].as_u64()),
        (Some("queued"), Some(0))
    );

    let body = json!({"text": "x", "priority": "normal", "metadata": {"a": "b"}, "ttl_seconds": 5});
    let second = api.call(submit(&body)).await;
    let shown = api.call(get(second.header("location"))).await;
    assert_eq!(
        (shown.status, shown.body["status"].as_str()),
        (200, Some("queued"))
    );
    assert_eq!(shown.body["position"], 1);

    let job = api.queue.jobs.lock().unwrap()[1].clone();
    assert_eq!(job.subject.to_string(), "jobs.v1.default.normal.summarize.public");
    assert!(job.job.deadline.unwrap() <= time::now() + std::time::Duration::from_secs(5));
    assert_eq!(job.job.metadata["a"], "b");
}

#[tokio::test]
async fn a_job_runs_when_a_worker_says_so_and_its_answer_can_be_cached() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let job = api.queue.jobs.lock().unwrap()[0].job.id.clone();
    api.state.running().note(Progress {
        id: job.clone(),
        attempt: 2,
        worker: Token::new("a worker", "w").unwrap(),
        started_at: time::now(),
    });
    for path in [format!("/v1/jobs/{id}"), format!("/v1/jobs/{job}")] {
        let running = api.call(get(&path)).await;
        assert_eq!(
            (running.body["status"].as_str(), running.body["attempt"].as_u64()),
            (Some("running"), Some(2))
        );
        assert_eq!(running.body.get("position"), None);
    }
    api.queue.store(crate::testing::result(job.as_str(), 1));
    let ended = api.call(get(&format!("/v1/jobs/{job}"))).await;
    assert_eq!(
        (ended.body["summary"].as_str(), ended.id()),
        (Some("Rain fell."), id.clone())
    );
    let again = Request::get(format!("/v1/jobs/{id}"))
        .header("if-none-match", format!("\"x\", {}", ended.header("etag")));
    let again = api.call(again.body(Body::empty()).unwrap()).await;
    assert_eq!((again.status, again.body.as_str()), (304, Some("")));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_gets_the_end_or_the_job_as_it_is() {
    let api = with_worker();
    let wait = |text: &str, prefer: &str| {
        let mut request = submit(&json!({"text": text}));
        request.headers_mut().insert("prefer", prefer.parse().unwrap());
        request
    };
    let done = api.call(wait("rain", "wait=10")).await;
    assert_eq!((done.status, done.body["summary"].as_str()), (200, Some("RAIN")));
    assert_eq!(done.header("preference-applied"), "wait=10");
    let failed = api.call(wait("fail", "wait=10")).await;
    assert_eq!(
        (failed.status, failed.body["status"].as_str()),
        (200, Some("failed"))
    );
    assert_eq!(failed.body["error"]["remedy"], "/errors/inference_failed");

    api.queue.has_worker.store(false, Ordering::Relaxed);
    let began = Instant::now();
    let late = api.call(wait("rain", "respond-async, wait=10")).await;
    assert_eq!((late.status, began.elapsed().as_secs()), (202, 10));
    assert_eq!(late.header("preference-applied"), "respond-async, wait=10");
    let polled = api.call(get(&format!("/v1/jobs/{}?wait=5", late.id()))).await;
    assert_eq!(
        (polled.body["status"].as_str(), began.elapsed().as_secs()),
        (Some("queued"), 15)
    );

    let published = api.queue.jobs.lock().unwrap().len();
    api.refused(wait("rain", "wait=31"), 422, "invalid_parameter")
        .await;
    api.refused(wait("rain", "wait=soon"), 400, "invalid_request")
        .await;
    assert_eq!(api.queue.jobs.lock().unwrap().len(), published);
}

#[tokio::test]
async fn a_stop_answers_who_waits_at_once() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let router = api.router.clone();
    let poll = tokio::spawn(router.oneshot(get(&format!("/v1/jobs/{id}?wait=30"))));
    let legacy = api
        .router
        .clone()
        .oneshot(post("/article/summarize", r#"{"article":"x"}"#));
    let legacy = tokio::spawn(legacy);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    api.state.stop().cancel();
    assert_eq!(poll.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(
        legacy.await.unwrap().unwrap().status(),
        StatusCode::GATEWAY_TIMEOUT
    );
}

#[tokio::test]
async fn a_job_that_is_not_there_was_never_there_or_is_gone() {
    let api = with_worker();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let (job, sequence) = id.split_once('.').unwrap();
    // The id of one job with the place of another.
    api.refused(get(&format!("/v1/jobs/other.{sequence}")), 410, "job_gone")
        .await;
    api.refused(get("/v1/jobs/other.2"), 404, "job_not_found").await;
    let bare = api.refused(get("/v1/jobs/other"), 404, "job_not_found").await;
    assert!(bare.body["detail"].as_str().unwrap().contains("sequence"));
    api.refused(get("/v1/jobs/a.b"), 400, "invalid_request").await;
    api.refused(get("/v1/jobs/%FF"), 400, "invalid_request").await;
    api.refused(get(&format!("/v1/jobs/{job}?wait=x")), 400, "invalid_request")
        .await;
    api.refused(get(&format!("/v1/jobs/{job}?weight=1")), 400, "invalid_request")
        .await;
    api.refused(get(&format!("/v1/jobs/{job}?wait=31")), 422, "invalid_parameter")
        .await;
}

#[tokio::test]
async fn a_bad_request_is_refused_before_it_is_queued() {
    let api = api();
    for (body, status, code) in [
        (json!({"text": " \n"}), 422, "empty_text"),
        (json!({"text": "x".repeat(1_001)}), 422, "text_too_long"),
        (
            json!({"text": "x", "params": {"num_beams": 0}}),
            422,
            "invalid_parameter",
        ),
        (
            json!({"text": "x", "params": {"num_beans": 1}}),
            400,
            "invalid_request",
        ),
        (
            json!({"text": "x", "deadline": "2020-01-01T00:00:00Z"}),
            422,
            "invalid_parameter",
        ),
        (
            json!({"text": "x", "deadline": "2999-01-01T00:00:00Z", "ttl_seconds": 1}),
            400,
            "invalid_request",
        ),
        (json!({"text": "x", "ttl_seconds": 0}), 422, "invalid_parameter"),
        (json!({"text": "x", "priority": "urgent"}), 400, "invalid_request"),
        (
            json!({"text": "x", "metadata": {"": "b"}}),
            400,
            "invalid_request",
        ),
        (json!({"texts": ["x"]}), 400, "invalid_request"),
        (json!(["x"]), 400, "invalid_request"),
        (json!({"text": "x".repeat(5_000)}), 413, "body_too_large"),
    ] {
        api.refused(submit(&body), status, code).await;
    }
    for broken in [&b"{"[..], b"", b"{\"text\":\"\xff\"}", b"null"] {
        api.refused(post("/v1/summaries", broken.to_vec()), 400, "invalid_request")
            .await;
    }
    let chunks =
        futures::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64]))));
    api.refused(
        post("/v1/summaries", Body::from_stream(chunks)),
        413,
        "body_too_large",
    )
    .await;
    let mut form = submit(&json!({"text": "x"}));
    form.headers_mut().remove(header::CONTENT_TYPE);
    api.refused(form, 415, "unsupported_media_type").await;
    assert!(api.queue.jobs.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_nobody_serves_is_refused() {
    let api = api();
    let answer = api
        .refused(
            submit(&json!({"text": "x", "model": "google/bart"})),
            422,
            "unknown_model",
        )
        .await;
    assert!(answer.body["detail"].as_str().unwrap().contains("`google/bart`"));
    let body = json!({"text": "x", "model": "default", "priority": "high"});
    assert_eq!(api.call(submit(&body)).await.status, 202);
    assert_eq!(api.queue.jobs.lock().unwrap()[0].subject.lane, Lane::High);
}

#[tokio::test]
async fn a_queue_in_trouble_is_a_503_that_says_when_to_come_back() {
    for code in [ErrorCode::QueueFull, ErrorCode::QueueUnavailable] {
        let api = api();
        // So that the model is known.
        assert_eq!(api.call(submit(&json!({"text": "x"}))).await.status, 202);
        *api.queue.refuses.lock().unwrap() = Some(code);
        api.refused(submit(&json!({"text": "x"})), 503, code.as_str())
            .await;
        api.refused(get("/v1/jobs/a.1"), 503, code.as_str()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_routes_answer_with_bare_summaries() {
    let api = with_worker();
    for body in [
        r#"{"article":"rain"}"#,
        r#"{"article":{"article":"rain"},"config":{"num_beans":8,"temperature":1}}"#,
    ] {
        let answer = api.call(post("/article/summarize", body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, Some("RAIN")));
    }
    let jobs = api.queue.jobs.lock().unwrap().clone();
    assert_eq!(jobs[1].job.channel.as_str(), "local");
    assert_eq!(
        (jobs[0].job.params.num_beams, jobs[1].job.params.num_beams),
        (None, Some(8))
    );

    let batch = |body: &'static str| post("/article/summarize_batch", body);
    let answer = api.call(batch(r#"{"articles":["a","b","c"]}"#)).await;
    assert_eq!(answer.body, json!(["A", "B", "C"]));
    assert_eq!(
        api.call(batch(r#"{"articles":{"articles":[]}}"#)).await.body,
        json!([])
    );
    api.refused(
        batch(r#"{"articles":["a","b","c","d"]}"#),
        422,
        "invalid_parameter",
    )
    .await;
    let before = api.queue.jobs.lock().unwrap().len();
    let empty = api
        .refused(batch(r#"{"articles":["a"," "]}"#), 422, "empty_text")
        .await;
    assert!(
        empty.body["detail"]
            .as_str()
            .unwrap()
            .starts_with("articles[1]: ")
    );
    assert_eq!(api.queue.jobs.lock().unwrap().len(), before);
    let failed = api
        .refused(batch(r#"{"articles":["a","fail"]}"#), 500, "inference_failed")
        .await;
    assert!(failed.body["job_id"].is_string());

    api.queue.has_worker.store(false, Ordering::Relaxed);
    let began = Instant::now();
    let late = api
        .refused(
            post("/article/summarize", r#"{"article":"x"}"#),
            504,
            "wait_timeout",
        )
        .await;
    assert_eq!(began.elapsed().as_secs(), 2);
    let shown = api
        .call(get(&format!(
            "/v1/jobs/{}",
            late.body["job_id"].as_str().unwrap()
        )))
        .await;
    assert_eq!(shown.body["status"], "queued");
}

#[tokio::test]
async fn what_is_no_route_is_a_problem_too() {
    let api = api();
    api.refused(get("/v1/summary"), 404, "route_not_found").await;
    api.refused(get("/errors/oops"), 404, "route_not_found").await;
    let wrong = api.refused(get("/v1/summaries"), 405, "method_not_allowed").await;
    assert_eq!(wrong.header("allow"), "POST");
    let delete = Request::delete("/v1/jobs/a.1").body(Body::empty()).unwrap();
    assert_eq!(
        api.refused(delete, 405, "method_not_allowed")
            .await
            .header("allow"),
        "GET,HEAD"
    );

    let unready = router(api.state.clone(), Readiness::default());
    let unready = Api {
        router: unready,
        ..api
    };
    unready.refused(get("/readyz"), 503, "queue_unavailable").await;
}

#[tokio::test]
async fn a_panic_is_a_problem_with_a_request_id() {
    async fn handler() {
        panic!("on purpose");
    }
    let routes = Router::new().route("/", axum::routing::get(handler));
    let api = Api {
        router: layered(routes),
        ..api()
    };
    let mut request = get("/");
    request
        .headers_mut()
        .insert("x-request-id", "mine".parse().unwrap());
    let answer = api.refused(request, 500, "internal").await;
    assert_eq!(answer.header("x-request-id"), "mine");
    assert!(!answer.body.to_string().contains("on purpose"));
}

#[tokio::test]
async fn the_small_routes_answer() {
    let api = api();
    for path in [
        "/",
        "/v1/models",
        "/errors",
        "/errors/queue_full",
        "/errors/queue_full.md",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert_eq!(api.call(get(path)).await.status, 200, "{path}");
    }
    let page = api.call(get("/errors/queue_full")).await;
    assert_eq!(page.header("content-type"), "text/markdown; charset=utf-8");
    assert!(page.body.as_str().unwrap().starts_with("# `queue_full`"));
    assert_eq!(api.call(get("/v1/models")).await.body, json!({"models": []}));
}
