//! Tests of the REST interface as clients see it, on an in-memory queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use precis_runtime::clock;
use precis_schemas::event::Progress;
use precis_schemas::{Lane, Token};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use axum::Router;
use precis_runtime::admin::Readiness;
use precis_runtime::config::{AccessConfig, HttpConfig, LimitsConfig};
use precis_schemas::ErrorCode;

use crate::gateway::layers;
use crate::gateway::router::router;
use crate::gateway::state::AppState;
use crate::testing::{FakeQueue, guarded_state_of, limited_state_of, state_of};

mod access;
mod batches;
mod browsers;
mod bulk;
mod compat;
mod forms;
mod framing;
mod idempotency;
mod jobs;
mod openapi;
mod refusals;
mod sagemaker;
mod schema;

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
    api_of(queue, state)
}

fn api_of(queue: Arc<FakeQueue>, state: AppState) -> Api {
    let readiness = Readiness::default();
    readiness.set(true);
    Api {
        queue,
        router: router(state.clone(), &readiness, state.browsers()),
        state,
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
    /// Sends a request. An error may have any format.
    async fn raw(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_slice(&body)
                .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()),
        }
    }

    /// Sends a request and checks that an error is a complete problem.
    async fn call(&self, request: Request<Body>) -> Answer {
        let answer = self.raw(request).await;
        assert!(!answer.header("x-request-id").is_empty());
        if answer.status >= 400 {
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let problem: precis_schemas::rest::Problem = serde_json::from_value(answer.body.clone()).unwrap();
            assert_eq!(problem.status, answer.status);
            assert_eq!(problem.kind, problem.code.doc_path());
            assert_eq!(problem.request_id.as_deref(), Some(answer.header("x-request-id")));
            assert_eq!(
                matches!(answer.status, 408 | 429 | 503) || answer.body["code"] == "idempotency_key_in_use",
                answer.headers.contains_key("retry-after")
            );
        }
        answer
    }

    /// Sends a request and checks the status and code of its error.
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
async fn a_submitted_text_can_be_polled() {
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
    assert!(job.job.deadline.unwrap() <= clock::now() + std::time::Duration::from_secs(5));
    assert_eq!(job.job.metadata["a"], "b");
}

#[tokio::test]
async fn a_job_runs_after_progress_and_its_state_has_an_etag() {
    let api = api();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let job = api.queue.jobs.lock().unwrap()[0].job.id.clone();
    api.state.running().note(Progress {
        id: job.clone(),
        attempt: 2,
        worker: Token::new("a worker", "w").unwrap(),
        started_at: clock::now(),
        job_sequence: Some(1),
        part: None,
        text: None,
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
async fn a_waiting_client_gets_the_result_or_the_current_state() {
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

    // Preferences that can't be applied are ignored, and the response names those that were.
    let began = Instant::now();
    let longest = api.call(wait("rain", "wait=31")).await;
    assert_eq!((longest.status, began.elapsed().as_secs()), (202, 30));
    assert_eq!(longest.header("preference-applied"), "wait=30");
    let soon = api.call(wait("rain", "wait=soon")).await;
    assert_eq!((soon.status, soon.header("preference-applied")), (202, ""));
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn shutdown_answers_waiting_requests_at_once() {
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
async fn informational_routes_answer() {
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
