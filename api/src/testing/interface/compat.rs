//! Tests of the routes of other services.

use precis_schemas::Channel;

use super::*;

impl Api {
    pub(super) fn channels(&self) -> Vec<Channel> {
        let jobs = self.queue.jobs.lock().unwrap();
        jobs.iter().map(|submission| submission.job.channel).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn article_routes_return_bare_summaries() {
    let api = with_worker();
    for body in [
        r#"{"article":"rain"}"#,
        r#"{"article":{"article":"rain"},"config":{"num_beans":8,"temperature":1}}"#,
    ] {
        let answer = api.call(post("/article/summarize", body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, Some("RAIN")));
    }
    assert_eq!(api.channels(), [Channel::Mlflow, Channel::Local]);
    let jobs = api.queue.jobs.lock().unwrap().clone();
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
    let before = api.channels().len();
    let empty = api
        .refused(batch(r#"{"articles":["a"," "]}"#), 422, "empty_text")
        .await;
    assert!(
        empty.body["detail"]
            .as_str()
            .unwrap()
            .starts_with("articles[1]: ")
    );
    assert_eq!(api.channels().len(), before);
    let failed = api
        .refused(batch(r#"{"articles":["a","fail","b"]}"#), 500, "inference_failed")
        .await;
    let jobs = failed.body["job_ids"].as_array().unwrap();
    assert_eq!((jobs.len(), &jobs[1]), (3, &failed.body["job_id"]));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_names_the_jobs() {
    let api = api();
    for (path, body, count) in [
        ("/article/summarize", json!({"article": "x"}), 0),
        ("/article/summarize_batch", json!({"articles": ["x", "y"]}), 2),
        ("/model/score", json!({"articles": ["x"], "targets": ["y"]}), 1),
        ("/online-predict", json!({"article": "x"}), 0),
        ("/batch-predict", json!({"articles": ["x", "y"]}), 2),
        ("/score", json!({"articles": ["x"], "targets": ["y"]}), 1),
        ("/invocations", json!({"articles": ["x", "y"]}), 2),
    ] {
        let began = Instant::now();
        let late = api
            .refused(post(path, body.to_string()), 504, "wait_timeout")
            .await;
        assert_eq!(began.elapsed().as_secs(), 2);
        let ids = late.body["job_ids"].as_array().map_or(0, Vec::len);
        assert_eq!(ids, count, "{path}: {}", late.body);
        let id = late.body["job_id"].as_str().unwrap();
        let shown = api.call(get(&format!("/v1/jobs/{id}"))).await;
        assert_eq!(shown.body["status"], "queued");
    }
    let mlflow = api
        .raw(post("/invocations", json!({"inputs": ["x", "y"]}).to_string()))
        .await;
    assert_eq!(
        (mlflow.status, mlflow.body["error_code"].as_str()),
        (504, Some("DEADLINE_EXCEEDED"))
    );
    assert_eq!(mlflow.body["job_ids"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn scores_are_means_over_the_pairs() {
    let api = with_worker();
    let pairs = json!({"articles": ["it rained", "sun"], "targets": ["it rained all day", "moon"]});
    let plain = api.call(post("/model/score", pairs.to_string())).await;
    let wrapped = json!({"pairs": pairs, "config": {"num_beans": 2}});
    let wrapped = api.call(post("/model/score", wrapped.to_string())).await;
    let lambda = api.call(post("/score", pairs.to_string())).await;
    // One pair has precision 1 and recall 1/2, the other no overlap.
    let expected = 2.0 * 0.5 / 1.5 / 2.0;
    for answer in [&plain, &wrapped, &lambda] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["rouge1"], expected);
        assert_eq!(answer.body["rougeLsum"], expected);
        assert_eq!(answer.body.as_object().unwrap().len(), 4);
    }
    use Channel::{Lambda, Local, Mlflow};
    assert_eq!(api.channels(), [Mlflow, Mlflow, Local, Local, Lambda, Lambda]);
    let job = api.queue.jobs.lock().unwrap()[0].job.clone();
    assert_eq!(job.reference.as_deref(), Some("it rained all day"));
    for (body, status, code) in [
        (
            json!({"articles": ["a", "b"], "targets": ["a"]}),
            422,
            "invalid_parameter",
        ),
        (json!({"articles": [], "targets": []}), 422, "invalid_parameter"),
        (json!({"articles": ["a"]}), 400, "invalid_request"),
    ] {
        api.refused(post("/model/score", body.to_string()), status, code)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn lambda_routes_return_plain_text_unless_accept_names_json() {
    let api = with_worker();
    let body = r#"{"article": "rain", "num_beans": 10, "temperature": 1.0}"#;
    let plain = api.call(post("/online-predict", body)).await;
    assert_eq!(plain.body, "RAIN");
    assert_eq!(plain.header("content-type"), "text/plain; charset=utf-8");
    let mut request = post("/online-predict", body);
    let accept = "text/html, application/json;q=0.9".parse().unwrap();
    request.headers_mut().insert(header::ACCEPT, accept);
    let quoted = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(quoted.headers()["content-type"], "application/json");
    assert_eq!(to_bytes(quoted.into_body(), 100).await.unwrap(), "\"RAIN\"");
    let batch = r#"{"articles": ["a", "b"], "num_beams": 2}"#;
    assert_eq!(
        api.call(post("/batch-predict", batch)).await.body,
        json!(["A", "B"])
    );
    assert!(api.channels().iter().all(|channel| *channel == Channel::Lambda));
    let params = api.queue.jobs.lock().unwrap()[0].job.params.clone();
    assert_eq!((params.num_beams, params.do_sample), (Some(10), Some(true)));
}

#[tokio::test(start_paused = true)]
async fn the_body_selects_mlflows_or_the_containers_format() {
    let api = with_worker();
    let invoke = |body: Value| post("/invocations", body.to_string());
    let container = api.call(invoke(json!({"articles": ["a", "b"]}))).await;
    assert_eq!(container.body, json!(["A", "B"]));
    let table =
        json!({"dataframe_split": {"columns": ["article"], "data": [["a"]]}, "params": {"num_beams": 4}});
    let mlflow = api.call(invoke(table)).await;
    assert_eq!(mlflow.body, json!({"predictions": [{"summarization": "A"}]}));
    let mut csv = post("/invocations", "article\nrain\n");
    let content_type = "text/csv; charset=UTF-8".parse().unwrap();
    csv.headers_mut().insert(header::CONTENT_TYPE, content_type);
    assert_eq!(
        api.call(csv).await.body,
        json!({"predictions": [{"summarization": "RAIN"}]})
    );
    use Channel::{Mlflow, Sagemaker};
    assert_eq!(api.channels(), [Sagemaker, Sagemaker, Mlflow, Mlflow]);
    assert_eq!(api.queue.jobs.lock().unwrap()[2].job.params.num_beams, Some(4));

    // Errors have the format of the request.
    api.refused(invoke(json!({"articles": "a"})), 400, "invalid_request")
        .await;
    api.refused(invoke(json!({"articles": [" "]})), 422, "empty_text")
        .await;
    for (body, status, error_code, part) in [
        (
            json!({"inputs": ["fail"]}),
            400,
            "BAD_REQUEST",
            "the model failed",
        ),
        (
            json!({"inputs": ["a", " "]}),
            400,
            "INVALID_PARAMETER_VALUE",
            "articles[1]: ",
        ),
        (
            json!({"inputs": ["a"], "params": {"num_beams": 0}}),
            400,
            "INVALID_PARAMETER_VALUE",
            "num_beams",
        ),
        (
            json!({"inputs": ["a", "b", "c", "d"]}),
            400,
            "INVALID_PARAMETER_VALUE",
            "3 are allowed",
        ),
        (
            json!({"articles": ["a"], "inputs": ["a", 7]}),
            400,
            "BAD_REQUEST",
            "Row 1",
        ),
    ] {
        let answer = api.raw(invoke(body)).await;
        assert_eq!(
            (answer.status, answer.body["error_code"].as_str()),
            (status, Some(error_code))
        );
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
    *api.queue.refuses.lock().unwrap() = Some(ErrorCode::QueueFull);
    let full = api.raw(invoke(json!({"inputs": ["a"]}))).await;
    assert_eq!(
        (full.status, full.body["code"].as_str()),
        (503, Some("queue_full"))
    );
    assert!(full.headers.contains_key("retry-after"));
}

#[tokio::test(start_paused = true)]
async fn unsupported_media_types_are_rejected_like_mlflow_does() {
    let api = with_worker();
    for (content_type, status, part) in [
        (
            Some("text/plain"),
            415,
            "Types: ['text/csv', 'application/json']. Got 'text/plain'.",
        ),
        (None, 415, "Got ''."),
        (
            Some("application/json; format=pandas-split"),
            415,
            "Unrecognized content type parameters: format.",
        ),
        (Some("text/csv; charset=klingon"), 415, "only supports UTF-8"),
    ] {
        let mut request = post("/invocations", r#"{"inputs": ["a"]}"#);
        let headers = request.headers_mut();
        match content_type {
            Some(text) => headers.insert(header::CONTENT_TYPE, text.parse().unwrap()),
            None => headers.remove(header::CONTENT_TYPE),
        };
        let answer = api.raw(request).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert!(answer.body.as_str().unwrap().contains(part), "{}", answer.body);
    }
}

#[tokio::test]
async fn mlflows_status_routes_answer_like_mlflow() {
    let api = api();
    for path in ["/ping", "/health"] {
        let answer = api.raw(get(path)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, Some("\n")));
        assert_eq!(answer.header("content-type"), "application/json");
    }
    assert_eq!(api.raw(get("/version")).await.body, "3.17.2");
    let alone = self::api();
    *alone.queue.refuses.lock().unwrap() = Some(ErrorCode::QueueUnavailable);
    assert_eq!(
        alone.raw(get("/ping")).await.status,
        404,
        "no worker is known to serve the model"
    );
    for request in [post("/ping", "{}"), get("/invocations")] {
        let answer = api.raw(request).await;
        assert_eq!(
            (answer.status, answer.body),
            (405, json!({"detail": "Method Not Allowed"}))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_text_fails_the_call_at_once_and_cancels_the_accepted_ones() {
    for (path, body) in [
        (
            "/article/summarize_batch",
            json!({"articles": ["a", "b", "full"]}),
        ),
        ("/batch-predict", json!({"articles": ["a", "b", "full"]})),
        ("/invocations", json!({"articles": ["a", "b", "full"]})),
        (
            "/model/score",
            json!({"articles": ["a", "b", "full"], "targets": ["x", "y", "z"]}),
        ),
    ] {
        let api = api();
        *api.queue.refuses_text.lock().unwrap() = Some((ErrorCode::QueueFull, "full".to_owned()));
        let began = Instant::now();
        let refused = api.refused(post(path, body.to_string()), 503, "queue_full").await;
        assert!(began.elapsed().is_zero(), "{path} waited for the accepted jobs");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("articles[2]: "), "{path}: {detail}");
        assert_eq!(refused.body.get("job_ids"), None, "{path}: {}", refused.body);
        assert_eq!(*api.queue.done.lock().unwrap(), [1, 2], "{path}");
    }
}
