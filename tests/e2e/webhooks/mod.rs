//! Webhooks to a receiver on this machine.

mod faults;
mod guards;
mod receiver;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use precis_schemas::JobId;
use precis_schemas::callback::Announcement;
use precis_tests::{Options, Product, eventually, id_of};
use reqwest::Method;
use serde_json::{Value, json};

use self::receiver::Receiver;
use crate::PROGRAM;
use crate::guarded::{
    SECRET_OF_ALL, SECRET_OF_ONE, gateway_process, guarded, request, second_gateway, submit,
};

fn rain(callback_url: &str) -> Value {
    json!({"text": "Rain fell over the hills. It was wet.", "params": {"max_new_tokens": 12}, "callback_url": callback_url})
}

async fn submitted(product: &Product, name: &str, url: &str) -> String {
    let answer = submit(product, &product.api, name, &rain(url)).await;
    assert_eq!(answer.status(), 202);
    answer.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Returns the webhook id of a job: its id and queue sequence.
fn webhook_id_of(handle: &str) -> String {
    format!("job_{}", handle.replace('.', "_"))
}

/// Returns the reason why a job's webhook was dead-lettered.
async fn given_up(product: &Product, after: u64, handle: &str) -> (String, String) {
    let (webhook, code, reason) = buried(product, after, id_of(handle)).await;
    assert_eq!(webhook, webhook_id_of(handle));
    (code, reason)
}

/// Returns the dead-lettered webhook of this job id, with the reason.
async fn buried(product: &Product, after: u64, id: JobId) -> (String, String, String) {
    let letter = product
        .dead_letter(after, |letter| {
            let body = letter.body.as_deref().unwrap_or_default();
            letter.subject.starts_with("webhooks.v2.")
                && letter.subject.ends_with(".job")
                && body.contains(id.as_str())
        })
        .await;
    let announcement: Announcement = serde_json::from_str(&letter.body.unwrap()).unwrap();
    let reason = letter.reason;
    (
        announcement.webhook_id(),
        reason.code.as_str().to_owned(),
        reason.message,
    )
}

#[tokio::test]
async fn a_recovering_receiver_gets_one_signed_webhook() {
    let product = guarded().await;
    let (_second, _) = second_gateway(product, "api-webhooks").await;
    let receiver = Receiver::start().await;
    let id = submitted(product, "one", &receiver.url("/failing")).await;
    let calls = receiver.called("/failing", 3).await;
    for call in &calls {
        assert_eq!(call.header("webhook-id"), webhook_id_of(&id));
        assert!(call.is_signed_with(SECRET_OF_ONE).await, "{call:?}");
        assert!(!call.is_signed_with(SECRET_OF_ALL).await);
        assert_eq!(call.header("content-type"), "application/json");
        let event = call.event();
        assert_eq!(event["type"], "job.succeeded");
        assert_eq!(event["data"]["id"], id);
        assert!(event["data"]["summary"].is_string(), "{event}");
    }
    // Another job without failures: with two gateways its webhook is still sent once.
    submitted(product, "two", &receiver.url("/fine")).await;
    let first = receiver.called("/fine", 1).await;
    assert!(first[0].is_signed_with(SECRET_OF_ALL).await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(receiver.calls("/fine").len(), 1);
    assert_eq!(receiver.calls("/failing").len(), 3);
}

/// A product of its own, without keys.
async fn unguarded() -> Product {
    unguarded_with(Vec::new()).await
}

async fn unguarded_with(settings: Vec<String>) -> Product {
    let options = Options {
        settings,
        config: format!(
            "[webhooks]\nsecret = \"{SECRET_OF_ALL}\"\nallow_http = true\nports = []\n\
             allow_networks = [\"127.0.0.2/32\"]\nfirst_retry_seconds = 1\n"
        ),
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

#[tokio::test]
async fn a_killed_gateway_loses_no_webhook() {
    let product = unguarded().await;
    let receiver = Receiver::start().await;
    let (status, job) = product
        .post("/v1/summaries", &rain(&receiver.url("/waking")))
        .await;
    assert_eq!(status, 202, "{job}");
    receiver.called("/waking", 1).await;
    let killed = gateway_process(&product);
    killed.kill();
    eventually(
        Duration::from_secs(60),
        "the other gateway is ready",
        async || {
            let ready = product
                .http
                .get(format!("{}/readyz", product.api))
                .send()
                .await
                .ok()?;
            let is_new = ready.status().is_success() && gateway_process(&product).id != killed.id;
            is_new.then_some(())
        },
    )
    .await;
    receiver.is_awake.store(true, Ordering::Relaxed);
    let before = receiver.calls("/waking").len();
    let calls = receiver.called("/waking", before + 1).await;
    let wanted = webhook_id_of(job["id"].as_str().unwrap());
    let ids: Vec<&str> = calls.iter().map(|call| call.header("webhook-id")).collect();
    assert!(ids.iter().all(|seen| *seen == wanted), "{ids:?}");
    assert!(calls[before].is_signed_with(SECRET_OF_ALL).await);
    // It was delivered, so nothing is left in the stream.
    eventually(Duration::from_secs(60), "the stream is empty", async || {
        let mut webhooks = product.nats().await.get_stream("WEBHOOKS").await.unwrap();
        (webhooks.info().await.unwrap().state.messages == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn undelivered_webhooks_are_dead_lettered_after_the_deadline() {
    let product = guarded().await;
    let receiver = Receiver::start().await;
    let dead = product.last_dead_letter().await;
    let id = submitted(product, "one", &receiver.url("/dead")).await;
    let (code, reason) = given_up(product, dead, &id).await;
    assert_eq!(code, "callback_failed");
    assert!(
        reason.contains("answered 503") && reason.contains("15 seconds"),
        "{reason}"
    );
    let calls = receiver.calls("/dead").len();
    assert!((3..12).contains(&calls), "pauses get longer: {calls}");
    // The job itself is unchanged.
    let job = request(
        product,
        &product.api,
        Method::GET,
        &format!("/v1/jobs/{id}"),
        "one",
    );
    let job: Value = job.send().await.unwrap().json().await.unwrap();
    assert_eq!(job["status"], "succeeded");
    let metrics = product.http.get(format!("{}/metrics", product.api));
    let metrics = metrics
        .bearer_auth(crate::guarded::key("one"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("precis_api_webhooks_total{outcome=\"failed\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn status_410_stops_attempts_and_redirects_are_not_followed() {
    let product = guarded().await;
    let receiver = Receiver::start().await;
    let dead = product.last_dead_letter().await;
    let gone = submitted(product, "two", &receiver.url("/gone")).await;
    submitted(product, "two", &receiver.url("/moved")).await;
    let (code, reason) = given_up(product, dead, &gone).await;
    assert_eq!(code, "callback_failed");
    assert!(reason.contains("410"), "{reason}");
    // The second attempt at the same address succeeded, and the redirect target saw no request.
    receiver.called("/moved", 2).await;
    assert!(receiver.calls("/secret").is_empty());
    assert_eq!(receiver.calls("/gone").len(), 1);
}

#[tokio::test]
async fn names_that_resolve_to_private_addresses_are_refused_on_connect() {
    let product = guarded().await;
    // Only 127.0.0.2 is allowed. The address behind a name is known only when connecting.
    let private = Receiver::at("127.0.0.1").await;
    let port = private.address.rsplit_once(':').unwrap().1;
    let dead = product.last_dead_letter().await;
    let id = submitted(product, "two", &format!("http://localhost:{port}/private")).await;
    let (code, reason) = given_up(product, dead, &id).await;
    assert_eq!(code, "callback_refused");
    assert!(reason.contains("is not allowed"), "{reason}");
    assert!(private.calls("/private").is_empty());
}

#[tokio::test]
async fn a_slow_receiver_delays_no_other() {
    let product = guarded().await;
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    for _ in 0..20 {
        submitted(product, "two", &slow.url("/slow")).await;
    }
    submitted(product, "two", &quick.url("/quick")).await;
    quick.called("/quick", 1).await;
    // The receiver may have 8 attempts at a time, and each takes 3 seconds.
    assert!(slow.calls("/slow").len() < 20);
    slow.called("/slow", 20).await;
}

#[tokio::test]
async fn a_batch_webhook_follows_its_last_row() {
    let product = guarded().await;
    let receiver = Receiver::start().await;
    let path = format!(
        "/v1/batches?priority=normal&callback_url={}",
        receiver.url("/batch")
    );
    let rows = "\"Rain fell over the hills. It was wet.\"\n\"\"\n\"Snow fell. It was cold.\"\n";
    let answer = request(product, &product.api, Method::POST, &path, "one")
        .header("content-type", "application/x-ndjson")
        .body(rows)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let id = answer.json::<Value>().await.unwrap()["id"].clone();
    let call = receiver.called("/batch", 1).await.remove(0);
    assert!(call.is_signed_with(SECRET_OF_ONE).await);
    let event = call.event();
    assert_eq!(
        (&event["type"], &event["data"]["id"]),
        (&json!("batch.finished"), &id)
    );
    assert_eq!(event["data"]["counts"]["succeeded"], 2);
    assert_eq!(event["data"]["counts"]["refused"], 1);
}

#[tokio::test]
async fn an_interrupted_upload_is_announced_as_broken_after_its_rows() {
    let product = guarded().await;
    let receiver = Receiver::start().await;
    let path = format!(
        "/v1/batches?priority=normal&callback_url={}",
        receiver.url("/broken")
    );
    // The second line is cut in the middle of a character.
    let rows = b"\"Rain fell over the hills. It was wet.\"\n\"Snow \xe2\x82".to_vec();
    let goes_away = async {
        // Webhooks announced earlier are sent meanwhile.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(std::io::Error::other("the client goes away"))
    };
    let pieces = futures::stream::iter([Ok(rows)]).chain(futures::stream::once(goes_away));
    let body = reqwest::Body::wrap_stream(pieces);
    let sent = request(product, &product.api, Method::POST, &path, "one")
        .header("content-type", "application/x-ndjson")
        .body(body)
        .send()
        .await;
    assert!(sent.is_err(), "{sent:?}");
    let call = receiver.called("/broken", 1).await.remove(0);
    let event = call.event();
    let data = &event["data"];
    assert_eq!(
        (&event["type"], &data["status"]),
        (&json!("batch.broken"), &json!("broken"))
    );
    assert_eq!(
        (data["rows"].as_u64(), data["counts"]["succeeded"].as_u64()),
        (Some(1), Some(1)),
        "{data}"
    );
    assert!(data["error"]["code"].is_string(), "{data}");
}

#[tokio::test]
async fn cancelled_jobs_send_webhooks() {
    let product = guarded().await;
    let receiver = Receiver::start().await;
    // Long enough to be cancelled while it waits or runs.
    let mut body = rain(&receiver.url("/cancelled"));
    body["params"] = json!({"num_beams": 64, "min_new_tokens": 500, "max_new_tokens": 500});
    let answer = submit(product, &product.api, "one", &body).await;
    let id = answer.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/jobs/{id}");
    let cancelled = request(product, &product.api, Method::DELETE, &path, "one");
    assert_eq!(cancelled.send().await.unwrap().status(), 200);
    let call = receiver.called("/cancelled", 1).await.remove(0);
    assert_eq!(call.event()["type"], "job.cancelled");
}

#[tokio::test]
async fn forbidden_addresses_are_refused_at_once() {
    let product = guarded().await;
    for url in [
        "http://127.0.0.1/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://2852039166/",
        "https://me:pw@hooks.example.com/",
        "ftp://127.0.0.2/",
        "nonsense",
    ] {
        let answer = submit(product, &product.api, "one", &rain(url)).await;
        assert_eq!(answer.status(), 422, "{url}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "callback_refused", "{url}: {problem}");
        let path = format!("/v1/batches?callback_url={url}");
        let batch = request(product, &product.api, Method::POST, &path, "one").json(&["x"]);
        assert_eq!(batch.send().await.unwrap().status(), 422, "{url}");
    }
}
