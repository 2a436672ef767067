//! Tests of rejected requests.

use precis_schemas::event::Heartbeat;

use super::*;

#[tokio::test]
async fn a_missing_job_is_not_found_or_gone() {
    let api = with_worker();
    let id = api.call(submit(&json!({"text": "x"}))).await.id();
    let (job, sequence) = id.split_once('.').unwrap();
    // The id of one job with the sequence of another.
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
async fn invalid_requests_are_rejected_before_queueing() {
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
        (json!({}), 400, "invalid_request"),
        (json!({"text": "x", "texts": ["x"]}), 400, "invalid_request"),
        (json!({"text": "x", "references": ["x"]}), 400, "invalid_request"),
        (json!({"texts": ["x"], "reference": "x"}), 400, "invalid_request"),
        (json!({"texts": ["x"], "references": []}), 400, "invalid_request"),
        (json!({"texts": []}), 422, "invalid_parameter"),
        (json!({"texts": ["x", "x", "x", "x"]}), 422, "invalid_parameter"),
        (json!({"texts": ["x", " "]}), 422, "empty_text"),
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

#[tokio::test]
async fn a_minimum_above_the_models_default_maximum_is_rejected_before_queueing() {
    let api = api();
    let heartbeat = include_str!("../../../../schemas/wire/v1/heartbeat.json");
    let announce = |worker: &str, default_max_new_tokens| {
        api.state.workers().note(Heartbeat {
            worker: Token::new("a worker", worker).unwrap(),
            default_max_new_tokens,
            sent_at: clock::now(),
            ..serde_json::from_str(heartbeat).unwrap()
        });
    };
    let body = |params: Value| submit(&json!({"text": "rain", "params": params}));
    // Workers of earlier versions do not state their default.
    announce("old", None);
    assert_eq!(api.call(body(json!({"min_new_tokens": 120}))).await.status, 202);
    announce("new", Some(63));
    let refused = api
        .refused(body(json!({"min_new_tokens": 64})), 422, "invalid_parameter")
        .await;
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("max_new_tokens (63) of the model `default`"),
        "{detail}"
    );
    let several = json!({"texts": ["rain"], "params": {"min_new_tokens": 64}});
    api.refused(submit(&several), 422, "invalid_parameter").await;
    let batch = Request::post("/v1/batches?params=%7B%22min_new_tokens%22:64%7D")
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(Body::from("\"rain\"\n"))
        .unwrap();
    api.refused(batch, 422, "invalid_parameter").await;
    assert_eq!(api.queue.jobs.lock().unwrap().len(), 1);
    for params in [
        json!({"min_new_tokens": 63}),
        json!({"min_new_tokens": 120, "max_new_tokens": 120}),
    ] {
        assert_eq!(api.call(body(params)).await.status, 202);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unserved_model_is_rejected() {
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
async fn a_full_or_unavailable_queue_is_a_503_with_retry_after() {
    for code in [ErrorCode::QueueFull, ErrorCode::QueueUnavailable] {
        let api = api();
        // Caches the models of the queue.
        assert_eq!(api.call(submit(&json!({"text": "x"}))).await.status, 202);
        *api.queue.refuses.lock().unwrap() = Some(code);
        api.refused(submit(&json!({"text": "x"})), 503, code.as_str())
            .await;
        api.refused(get("/v1/jobs/a.1"), 503, code.as_str()).await;
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let api = api();
    api.refused(get("/v1/summary"), 404, "route_not_found").await;
    api.refused(get("/errors/oops"), 404, "route_not_found").await;
    let wrong = api.refused(get("/v1/summaries"), 405, "method_not_allowed").await;
    assert_eq!(wrong.header("allow"), "POST");
    let put = Request::put("/v1/jobs/a.1").body(Body::empty()).unwrap();
    assert_eq!(
        api.refused(put, 405, "method_not_allowed").await.header("allow"),
        "GET,HEAD,DELETE"
    );

    let unready = router(api.state.clone(), &Readiness::default(), None);
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
        router: layers::wrap(routes, Arc::default(), &HttpConfig::default(), None, &[]),
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
