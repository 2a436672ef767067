//! Tests of keys, rate limits, quotas and CORS.

use precis_runtime::Config;
use precis_runtime::config::KeyHash;

use super::*;

/// A gateway with the keys `precis_one`, `precis_two` and `precis_few`, and more `settings`.
fn guarded(settings: &str) -> Api {
    let key = |name: &str, rest: &str| {
        let hash = KeyHash::of(&format!("precis_{name}"));
        format!("[[access.keys]]\nname = '{name}'\nhash = '{hash}'\n{rest}\n")
    };
    let text = format!(
        "{settings}\n{}{}{}",
        key("one", "lanes = ['normal', 'bulk']\nmodels = ['default']"),
        key("two", "requests_per_minute = 60\nburst = 2"),
        key("few", "max_queued_jobs = 2"),
    );
    let config = Config::from_toml(&text).unwrap();
    let queue = Arc::new(FakeQueue::default());
    let state = guarded_state_of(queue.clone(), &config.access, config.http);
    api_of(queue, state)
}

fn with_key(mut request: Request<Body>, key: &'static str) -> Request<Body> {
    let value = format!("Bearer precis_{key}").parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

#[tokio::test]
async fn only_open_routes_answer_without_a_key() {
    let api = guarded("");
    for path in [
        "/v1/models",
        "/v1/jobs/a.1",
        "/metrics",
        "/nothing",
        "/article/summarize",
    ] {
        let refused = api.refused(get(path), 401, "unauthorized").await;
        assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"precis\"");
    }
    let wrong = with_key(get("/v1/models"), "three");
    let refused = api.refused(wrong, 401, "unauthorized").await;
    assert!(refused.header("www-authenticate").contains("invalid_token"));
    for path in ["/", "/healthz", "/readyz", "/errors/unauthorized"] {
        assert_eq!(api.call(get(path)).await.status, 200, "{path}");
    }
    assert_eq!(api.call(with_key(get("/v1/models"), "one")).await.status, 200);
    // Rejected requests reach no handler.
    assert!(api.queue.jobs.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_concerns_all_tenants_is_for_operators() {
    let api = guarded("");
    for path in ["/v1/configuration", "/v1/sample-history"] {
        api.refused(with_key(get(path), "one"), 403, "forbidden").await;
    }
    api.refused(with_key(get("/v1/jobs?tenant=two"), "one"), 403, "forbidden")
        .await;
    let status = api.call(with_key(get("/v1/status"), "one")).await;
    assert_eq!(status.status, 200);
    assert!(status.body.get("webhooks").is_none(), "{}", status.body);
    assert!(!status.body.to_string().contains("detail"), "{}", status.body);
    for text in ["Rain fell.", "Snow fell."] {
        let key = if text.starts_with('R') { "one" } else { "two" };
        let answer = api.call(with_key(submit(&json!({"text": text})), key)).await;
        assert_eq!(answer.status, 202);
    }
    let jobs = api.call(with_key(get("/v1/jobs"), "one")).await;
    assert_eq!(jobs.body["jobs"].as_array().unwrap().len(), 1, "{}", jobs.body);
    assert_eq!(jobs.body["jobs"][0]["text"], "Rain fell.");

    let open = super::api();
    let configuration = open.call(get("/v1/configuration")).await;
    assert_eq!(configuration.header("content-type"), "application/toml");
    assert!(configuration.body.as_str().unwrap().contains("[api]"));
}

#[tokio::test]
async fn a_tenant_sees_only_its_own_jobs() {
    let api = guarded("");
    let rain = json!({"text": "Rain fell."});
    let id = api.call(with_key(submit(&rain), "one")).await.id();
    let job = api.queue.jobs.lock().unwrap()[0].clone();
    assert_eq!(job.subject.tenant.as_str(), "one");
    let path = format!("/v1/jobs/{id}");
    let show = |key| with_key(get(&path), key);
    assert_eq!(api.call(show("one")).await.status, 200);
    api.refused(show("few"), 404, "job_not_found").await;

    let result = crate::testing::result(job.job.id.as_str(), 1);
    let tenant = job.subject.tenant.clone();
    api.queue.store(precis_schemas::JobResult { tenant, ..result });
    assert_eq!(api.call(show("one")).await.body["status"], "succeeded");
    api.refused(show("few"), 404, "job_not_found").await;
    let bare = with_key(get(&format!("/v1/jobs/{}", job.job.id)), "few");
    api.refused(bare, 404, "job_not_found").await;
}

/// Status and body of a response, with `id` replaced.
async fn response_about(api: &Api, request: Request<Body>, id: &str) -> (u16, String) {
    let answer = api.call(with_key(request, "few")).await;
    let mut body = answer.body;
    body["request_id"].take();
    let text = body.to_string().replace(id, "ID");
    (answer.status, text)
}

#[tokio::test]
async fn a_foreign_job_looks_like_one_that_never_existed() {
    let api = guarded("");
    let rain = json!({"text": "Rain fell."});
    // The first stays queued, the second ends.
    for _ in 0..2 {
        api.call(with_key(submit(&rain), "one")).await;
    }
    let jobs = api.queue.jobs.lock().unwrap().clone();
    let (waiting, ended) = (&jobs[0].job.id, &jobs[1].job.id);
    let tenant = jobs[1].subject.tenant.clone();
    let result = crate::testing::result(ended.as_str(), 2);
    api.queue.store(precis_schemas::JobResult { tenant, ..result });
    api.queue.done.lock().unwrap().push(2);
    let reference = |id: &str| {
        let path = format!("/v1/jobs/{id}/reference");
        post(&path, json!({"reference": "Rain."}).to_string())
    };
    type Ask<'a> = &'a dyn Fn(&str) -> Request<Body>;
    let requests: [Ask<'_>; 5] = [
        &|id| get(&format!("/v1/jobs/{id}")),
        &|id| get(&format!("/v1/jobs/{id}?wait=1")),
        &|id| get(&format!("/v1/jobs/{id}/events")),
        &|id| {
            Request::delete(format!("/v1/jobs/{id}"))
                .body(Body::empty())
                .unwrap()
        },
        &reference,
    ];
    for (theirs, none) in [
        (format!("{waiting}.1"), "never.1".to_owned()),
        (format!("{ended}.2"), "never.2".to_owned()),
        (ended.to_string(), "never".to_owned()),
        (waiting.to_string(), "never".to_owned()),
    ] {
        for (index, request) in requests.iter().enumerate() {
            let foreign = response_about(&api, request(&theirs), &theirs).await;
            let unknown = response_about(&api, request(&none), &none).await;
            assert_eq!(foreign, unknown, "request {index} about {theirs}");
            assert!(matches!(foreign.0, 404 | 503), "{foreign:?}");
        }
    }
    assert!(api.queue.sent_cancels.lock().unwrap().is_empty());
    // A wait for an id covers jobs that are not published yet, and takes as long for a foreign job.
    let began = Instant::now();
    response_about(&api, get(&format!("/v1/jobs/{ended}?wait=1")), ended.as_str()).await;
    assert!(began.elapsed() >= std::time::Duration::from_secs(1));

    let pairs = json!({"pairs": [{"text": "x", "reference": "r"}]}).to_string();
    let mut request = with_key(post("/v1/scores", pairs), "one");
    request
        .headers_mut()
        .insert("prefer", "respond-async".parse().unwrap());
    let scores = api.call(request).await;
    let mine = with_key(get(scores.header("location")), "one");
    assert_eq!(api.call(mine).await.status, 200);
    let theirs = scores.id();
    let ask = |id: &str| get(&format!("/v1/scores/{id}?wait=1"));
    let foreign = response_about(&api, ask(&theirs), &theirs).await;
    assert_eq!(foreign, response_about(&api, ask("never"), "never").await);
    assert_eq!(foreign.0, 404);
}

#[tokio::test]
async fn a_key_may_be_limited_to_lanes_and_models() {
    let api = guarded("");
    let urgent = json!({"text": "x", "priority": "high"});
    let refused = api
        .refused(with_key(submit(&urgent), "one"), 403, "forbidden")
        .await;
    assert!(refused.body["detail"].as_str().unwrap().contains("normal, bulk"));
    assert_eq!(api.call(with_key(submit(&urgent), "few")).await.status, 202);
}

#[tokio::test]
async fn requests_over_the_rate_limit_get_a_retry_time() {
    let api = guarded("");
    let ask = || with_key(get("/v1/models"), "two");
    let first = api.call(ask()).await;
    assert_eq!(first.header("ratelimit-policy"), "\"key\";q=2;w=2");
    assert_eq!(first.header("ratelimit"), "\"key\";r=1;t=1");
    api.call(ask()).await;
    let refused = api.refused(ask(), 429, "rate_limited").await;
    assert_eq!(
        (refused.header("retry-after"), refused.header("ratelimit")),
        ("1", "\"key\";r=0;t=2")
    );
    // Other keys are unaffected, and open routes are not counted.
    assert_eq!(api.call(with_key(get("/v1/models"), "one")).await.status, 200);
    assert_eq!(api.call(get("/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_panic_in_an_endpoint_has_sagemakers_format_and_counts_for_the_key() {
    async fn handler() {
        panic!("on purpose");
    }
    let routes = Router::new().route("/endpoints/{name}/invocations", axum::routing::post(handler));
    let api = guarded("");
    let api = Api {
        router: layers::wrap(
            routes,
            api.state.gate().clone(),
            &HttpConfig::default(),
            None,
            crate::compat::ERROR_FORMATS,
        ),
        ..api
    };
    let answer = api
        .raw(with_key(post("/endpoints/any/invocations", "{}"), "two"))
        .await;
    assert_eq!(
        (answer.status, answer.header("x-amzn-errortype")),
        (500, "InternalFailure")
    );
    assert_eq!(answer.header("ratelimit"), "\"key\";r=1;t=1");
    assert!(!answer.body.to_string().contains("on purpose"));
}

#[tokio::test]
async fn errors_before_an_endpoints_route_have_sagemakers_format() {
    let api = guarded("");
    let invoke = || post("/endpoints/any/invocations", r#"{"articles": ["Rain fell."]}"#);
    for request in [invoke(), with_key(invoke(), "three")] {
        let refused = api.raw(request).await;
        assert_eq!(
            (refused.status, refused.header("x-amzn-errortype")),
            (403, "AccessDeniedException"),
            "{}",
            refused.body
        );
        assert_eq!(refused.header("content-type"), "application/json");
        assert!(refused.body["Message"].is_string(), "{}", refused.body);
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
    }
    for _ in 0..2 {
        api.call(with_key(get("/v1/models"), "two")).await;
    }
    let refused = api.raw(with_key(invoke(), "two")).await;
    assert_eq!(
        (refused.status, refused.header("x-amzn-errortype")),
        (429, "ThrottlingException")
    );
    assert_eq!(
        (refused.header("retry-after"), refused.header("ratelimit")),
        ("1", "\"key\";r=0;t=2")
    );
    let long = post(&format!("/endpoints/any/invocations?{}", "x".repeat(9_000)), "{}");
    let refused = api.raw(long).await;
    assert_eq!(
        (refused.status, refused.header("x-amzn-errortype")),
        (400, "ValidationError")
    );
}

#[tokio::test]
async fn a_key_may_not_exceed_its_quota() {
    let api = guarded("");
    let rain = json!({"text": "Rain fell."});
    for _ in 0..2 {
        assert_eq!(api.call(with_key(submit(&rain), "few")).await.status, 202);
    }
    let refused = api
        .refused(with_key(submit(&rain), "few"), 429, "quota_exceeded")
        .await;
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(api.call(with_key(submit(&rain), "one")).await.status, 202);
    // A job that has ended no longer counts.
    api.queue.done.lock().unwrap().push(1);
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    assert_eq!(api.call(with_key(submit(&rain), "few")).await.status, 202);
}

#[tokio::test]
async fn only_configured_origins_may_call() {
    let preflight = |origin: &'static str| {
        Request::options("/v1/summaries")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
            .body(Body::empty())
            .unwrap()
    };
    let off = guarded("").call(preflight("https://app.example.com")).await;
    assert_eq!((off.status, off.header("access-control-allow-origin")), (401, ""));

    let api = guarded("[http]\ncors_origins = ['https://app.example.com']");
    let allowed = api.call(preflight("https://app.example.com")).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    let mut repeated = get("/healthz");
    repeated
        .headers_mut()
        .insert("origin", "https://app.example.com".parse().unwrap());
    let seen = api.call(repeated).await;
    assert!(
        seen.header("access-control-expose-headers")
            .contains("idempotent-replayed")
    );
    let other = api.call(preflight("https://evil.example.com")).await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    // Pages can read errors too.
    let mut refused = get("/v1/models");
    refused
        .headers_mut()
        .insert("origin", "https://app.example.com".parse().unwrap());
    let refused = api.refused(refused, 401, "unauthorized").await;
    assert_eq!(
        refused.header("access-control-allow-origin"),
        "https://app.example.com"
    );
}

#[tokio::test]
async fn a_long_uri_is_rejected_and_the_trace_is_returned() {
    let api = api();
    let long = format!("/v1/jobs/a?wait={}", "1".repeat(9_000));
    api.refused(get(&long), 414, "uri_too_long").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut request = get("/healthz");
    request
        .headers_mut()
        .insert("traceparent", trace.parse().unwrap());
    let answer = api.call(request).await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    assert!(answer.header("traceparent").contains(id));
    assert!(answer.header("server-timing").contains("total;dur="));
    assert!(answer.header("server-timing").contains(id));
}
