//! API keys, tenants and queue quotas, on real processes.

use std::time::Duration;

use precis_tests::{eventually, samples};
use reqwest::Method;
use serde_json::{Value, json};

use crate::PROGRAM;
use crate::guarded::{guarded, key, request, second_gateway, submit};

fn rain() -> Value {
    json!({"text": "Rain fell over the hills all night, and the river rose by two metres."})
}

/// A job that keeps a worker busy for a while.
fn long() -> Value {
    let text = samples::get("geothermal-skarn-valley").article;
    json!({"text": text, "params": {"num_beams": 64, "min_new_tokens": 200, "max_new_tokens": 200}})
}

#[tokio::test]
async fn keys_are_required_and_tenants_are_isolated_on_every_gateway() {
    let product = guarded().await;
    let (_second, other) = second_gateway(product, "api-tenants").await;
    let (status, problem) = product.post("/v1/summaries", &rain()).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (401, Some("unauthorized")),
        "{problem}"
    );
    assert_eq!(product.get("/errors/unauthorized").await.0, 200);

    let accepted = submit(product, &product.api, "one", &rain()).await;
    assert_eq!(accepted.status(), 202);
    let trace = accepted.headers()["traceparent"].to_str().unwrap().to_owned();
    assert_eq!(trace.len(), 55, "{trace}");
    let id = accepted.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/jobs/{id}?wait=100");
    for base in [&product.api, &other] {
        let mine = request(product, base, Method::GET, &path, "one")
            .send()
            .await
            .unwrap();
        assert_eq!(mine.status(), 200);
        assert_eq!(mine.json::<Value>().await.unwrap()["status"], "succeeded");
        let foreign = request(product, base, Method::GET, &path, "two")
            .send()
            .await
            .unwrap();
        assert_eq!(foreign.status(), 404);
    }
    let by_header = product.http.get(format!("{other}{path}"));
    let by_header = by_header.header("x-api-key", key("one")).send().await.unwrap();
    assert_eq!(by_header.status(), 200);
    // The row contains the tenant too.
    let rows = product.rows_of(&precis_tests::id_of(&id)).await;
    assert_eq!(rows[0]["tenant"], "one");
}

#[tokio::test]
async fn analytics_contain_only_the_keys_tenant() {
    let product = guarded().await;
    let mut ids = vec![];
    for name in ["one", "two"] {
        let accepted: Value = submit(product, &product.api, name, &rain())
            .await
            .json()
            .await
            .unwrap();
        ids.push(accepted["id"].as_str().unwrap().to_owned());
    }
    for id in &ids {
        product.rows_of(&precis_tests::id_of(id)).await;
    }
    let ask = async |base: &str, path: &str, name: &str| {
        let answer = request(product, base, Method::GET, path, name)
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for path in [
        "recent?limit=1000",
        "recent?limit=1000&tenant=",
        "recent?limit=1000&tenant=one",
    ] {
        let (status, answer) = ask(&product.api, &format!("/v1/analytics/{path}"), "one").await;
        assert_eq!(status, 200, "{answer}");
        let rows = answer["data"].as_array().unwrap();
        assert!(
            !rows.is_empty() && rows.iter().all(|row| row["tenant"] == "one"),
            "{path}: {answer}"
        );
    }
    for path in [
        "recent?tenant=two",
        "models?tenant=two",
        "drift",
        "drift?alerts=only",
    ] {
        let (status, problem) = ask(&product.api, &format!("/v1/analytics/{path}"), "one").await;
        assert_eq!(
            (status, &problem["code"]),
            (403, &json!("forbidden")),
            "{path}: {problem}"
        );
    }

    // The monitor's own routes isolate tenants as well.
    let list = "/history/list?num_record=1000";
    let refused = product
        .http
        .get(format!("{}{list}", product.monitor))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    let (status, mine) = ask(&product.monitor, list, "one").await;
    let shows = |id: &String| {
        let id = precis_tests::id_of(id).to_string();
        mine.as_array()
            .unwrap()
            .iter()
            .any(|row| row["prediction_id"] == id)
    };
    assert_eq!(
        (status, shows(&ids[0]), shows(&ids[1])),
        (200, true, false),
        "{mine}"
    );
    let ready = product
        .http
        .get(format!("{}/readyz", product.monitor))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
}

#[tokio::test]
async fn a_queue_quota_holds_across_two_gateways() {
    let product = guarded().await;
    let (_second, other) = second_gateway(product, "api-share").await;
    let mut accepted = Vec::new();
    for base in [&product.api, &other, &product.api, &other] {
        let answer = submit(product, base, "few", &long()).await;
        assert_eq!(answer.status(), 202);
        let view: Value = answer.json().await.unwrap();
        accepted.push(view["id"].as_str().unwrap().to_owned());
    }
    // Longer than a gateway caches the queue depth.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for base in [&product.api, &other] {
        let refused = submit(product, base, "few", &long()).await;
        assert_eq!(refused.status(), 429);
        assert!(refused.headers().contains_key("retry-after"));
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "quota_exceeded");
    }
    // Other tenants are not affected, and the quota frees up as jobs finish.
    assert_eq!(submit(product, &other, "two", &rain()).await.status(), 202);
    for id in &accepted {
        let path = format!("/v1/jobs/{id}?wait=100");
        let ended = request(product, &other, Method::GET, &path, "few").send().await;
        assert_eq!(
            ended.unwrap().json::<Value>().await.unwrap()["status"],
            "succeeded"
        );
    }
    eventually(Duration::from_secs(30), "the queue has room again", async || {
        let answer = submit(product, &product.api, "few", &rain()).await;
        (answer.status() == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rate_limited_requests_carry_retry_after() {
    let product = guarded().await;
    let ask = async || {
        let request = request(product, &product.api, Method::GET, "/v1/models", "slow");
        request.send().await.unwrap()
    };
    let first = ask().await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["ratelimit-policy"], "\"key\";q=2;w=2");
    // The limit allows one request per second, so most of a burst are refused.
    let answers = futures::future::join_all((0..20).map(|_| ask())).await;
    let refused: Vec<_> = answers
        .into_iter()
        .filter(|answer| answer.status() == 429)
        .collect();
    assert!(!refused.is_empty());
    for answer in refused {
        assert!(answer.headers().contains_key("retry-after"));
        assert!(answer.headers()["ratelimit"].to_str().unwrap().contains("r=0"));
    }
}

#[tokio::test]
async fn without_keys_only_loopback_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let check = |settings: &[&str]| {
        let mut command = std::process::Command::new(PROGRAM);
        command.arg("check-config").current_dir(folder.path());
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.output().unwrap()
    };
    let refused = check(&["api.listen=0.0.0.0:8000"]);
    assert_eq!(refused.status.code(), Some(78));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("access.insecure"), "{error}");
    let refused = check(&["monitor.listen=0.0.0.0:9020"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("monitor.listen")
    );
    assert!(
        check(&["api.listen=0.0.0.0:8000", "access.insecure=true"])
            .status
            .success()
    );

    // The configuration accepts what `precis key` prints.
    let made = std::process::Command::new(PROGRAM)
        .args(["key", "newsroom", "--webhook-secret"])
        .output()
        .unwrap();
    std::fs::write(folder.path().join("precis.toml"), &made.stdout).unwrap();
    assert!(check(&["api.listen=0.0.0.0:8000"]).status.success());
    let printed = String::from_utf8(made.stderr).unwrap();
    let key = printed
        .split_whitespace()
        .find(|word| word.starts_with("precis_"))
        .unwrap();
    assert!(!String::from_utf8(made.stdout).unwrap().contains(key));
}

#[tokio::test]
async fn a_bulk_only_key_needs_no_priority_and_gets_no_other() {
    let product = guarded().await;
    let accepted = submit(product, &product.api, "bulk", &rain()).await;
    assert_eq!(accepted.status(), 202);
    let id = accepted.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let rows = product.rows_of(&precis_tests::id_of(&id)).await;
    assert_eq!(rows[0]["lane"], "bulk");
    let mut urgent = rain();
    urgent["priority"] = json!("high");
    let refused = submit(product, &product.api, "bulk", &urgent).await;
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn an_operators_key_sees_every_tenant() {
    let product = guarded().await;
    let accepted = submit(product, &product.api, "one", &rain()).await;
    let id = accepted.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/jobs/{id}?wait=100");
    let seen = request(product, &product.api, Method::GET, &path, "operator")
        .send()
        .await
        .unwrap();
    assert_eq!(seen.status(), 200);
    product.rows_of(&precis_tests::id_of(&id)).await;
    let recent = "/v1/analytics/recent?limit=1000";
    let recent = request(product, &product.api, Method::GET, recent, "operator")
        .send()
        .await
        .unwrap();
    let recent: Value = recent.json().await.unwrap();
    let bare = precis_tests::id_of(&id).to_string();
    assert!(recent.to_string().contains(&bare), "{recent}");
    // Its own jobs belong to its tenant, so others don't see them.
    let own = submit(product, &product.api, "operator", &rain()).await;
    let own = own.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let hidden = request(
        product,
        &product.api,
        Method::GET,
        &format!("/v1/jobs/{own}"),
        "one",
    )
    .send()
    .await
    .unwrap();
    assert_eq!(hidden.status(), 404);
}
