//! Jobs by filter, and what only operators may see.

use super::*;

async fn submit_text(api: &Api, text: &str, priority: &str) {
    let answer = api
        .call(submit(&json!({"text": text, "priority": priority})))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.body);
}

#[tokio::test]
async fn waiting_jobs_are_listed_and_cancelled_by_filter_page_by_page() {
    let api = api();
    for (text, priority) in [
        ("Rain fell.", "bulk"),
        ("Snow fell.", "bulk"),
        ("Rain fell again.", "high"),
        ("Rain fell at last.", "bulk"),
    ] {
        submit_text(&api, text, priority).await;
    }
    let texts = |body: &Value| -> Vec<String> {
        let jobs = body["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["text"].as_str().unwrap().to_owned()).collect()
    };
    let all = api.call(get("/v1/jobs")).await.body;
    assert_eq!(texts(&all).len(), 4);
    assert_eq!(
        (&all["jobs"][0]["status"], &all["next"]),
        (&json!("queued"), &Value::Null)
    );
    let bulk = api.call(get("/v1/jobs?lane=bulk&q=RAIN&limit=1")).await.body;
    assert_eq!(texts(&bulk), ["Rain fell."]);
    let rest = api
        .call(get(&format!(
            "/v1/jobs?lane=bulk&q=RAIN&limit=1&after={}",
            bulk["next"]
        )))
        .await
        .body;
    assert_eq!(texts(&rest), ["Rain fell at last."]);

    let first = api.call(post("/v1/jobs/cancel?q=rain&limit=2", "")).await.body;
    assert_eq!(first["cancelled"].as_array().unwrap().len(), 2, "{first}");
    let rest = api
        .call(post(
            &format!("/v1/jobs/cancel?q=rain&limit=2&after={}", first["next"]),
            "",
        ))
        .await
        .body;
    assert_eq!(
        (rest["cancelled"].as_array().unwrap().len(), &rest["next"]),
        (1, &Value::Null)
    );
    assert_eq!(texts(&api.call(get("/v1/jobs")).await.body), ["Snow fell."]);
    for (path, code) in [
        ("/v1/jobs?limit=501", "invalid_parameter"),
        ("/v1/jobs?lane=fast", "invalid_request"),
        ("/v1/jobs?model=a%20b", "invalid_parameter"),
        ("/v1/jobs?since=now", "invalid_request"),
    ] {
        assert_eq!(api.call(get(path)).await.body["code"], code, "{path}");
    }
}

#[tokio::test]
async fn resubmitting_needs_a_valid_filter() {
    let api = api();
    for (query, code) in [
        ("limit=201", "invalid_parameter"),
        ("run=a%20b", "invalid_parameter"),
        ("outcome=lost", "invalid_parameter"),
        ("colour=red", "invalid_request"),
    ] {
        let answer = api
            .call(post(&format!("/v1/predictions/resubmit?{query}"), ""))
            .await;
        assert_eq!(answer.body["code"], code, "{query}");
    }
}

#[tokio::test]
async fn the_status_answers_while_parts_are_down_and_names_them() {
    let api = api();
    let status = api.call(get("/v1/status")).await;
    assert_eq!(status.status, 200);
    let state = |name: &str| {
        let parts = status.body["parts"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).unwrap()["state"].clone()
    };
    // The queue of the tests works. No monitor answers, which knows the targets.
    for (name, expected) in [
        ("nats", "up"),
        ("monitor", "down"),
        ("arize", "unknown"),
        ("phoenix", "unknown"),
    ] {
        assert_eq!(state(name), expected, "{name}");
    }
    let history = api.call(get("/v1/sample-history")).await;
    assert_eq!(
        (history.status, &history.body["code"]),
        (503, &json!("analytics_unavailable"))
    );
}
