//! The queue, the workers and the dead letters over REST.

use std::time::Duration;

use precis_tests::eventually;
use serde_json::{Value, json};

use crate::shared;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_queue_lists_lanes_and_live_workers() {
    let product = shared().await;
    product
        .summarize(&json!({"text": "Rain fell over the hills all night."}))
        .await;
    let (status, queue) = product.get("/v1/queue").await;
    assert_eq!(status, 200, "{queue}");
    let lanes = queue["lanes"].as_array().unwrap();
    let names: Vec<&str> = lanes
        .iter()
        .filter(|lane| lane["model"] == "default")
        .map(|lane| lane["lane"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["high", "normal", "bulk"]);
    assert_eq!(queue["workers"][0]["model"]["name"], "precis-mini", "{queue}");
    eventually(PATIENCE, "a heartbeat has the worker's pace", async || {
        let (_, queue) = product.get("/v1/queue").await;
        let pace = queue["workers"][0]["pace"]["jobs_per_second"].as_f64();
        pace.filter(|pace| *pace > 0.0)
    })
    .await;
}

/// Returns the dead letter whose body contains a phrase.
async fn dead(product: &precis_tests::Product, phrase: &str) -> Value {
    eventually(PATIENCE, "the dead letter is there", async || {
        let (status, list) = product.get(&format!("/v1/dead-letters?q={phrase}")).await;
        assert_eq!(status, 200, "{list}");
        Some(list["dead_letters"].get(0)?.clone())
    })
    .await
}

#[tokio::test]
async fn a_dead_job_is_found_and_replayed_as_a_new_job() {
    let product = shared().await;
    // No worker serves the model, so the job becomes a dead letter.
    let body = json!({"id": "dead-and-replayed", "text": "The Echidnaday opened. Rain fell all night."});
    product
        .publish("jobs.v1.absent.normal.summarize.public", body.to_string())
        .await;
    let letter = dead(product, "echidnaday").await;
    assert_eq!(
        (letter["kind"].as_str(), letter["replayable"].as_bool()),
        (Some("summarize"), Some(true))
    );
    assert_eq!(letter["job_id"], "dead-and-replayed");
    assert_eq!(letter["reason"]["code"], "unknown_model");
    let path = format!("/v1/dead-letters/{}", letter["sequence"]);
    let (status, whole) = product.get(&path).await;
    assert_eq!(
        (status, whole["body"].as_str()),
        (200, Some(body.to_string().as_str()))
    );

    let (status, replayed) = product.post(&format!("{path}/replay"), &json!({})).await;
    assert_eq!(status, 202, "{replayed}");
    assert_eq!(product.get(&path).await.0, 404);
    let (status, again) = product.post(&format!("{path}/replay"), &json!({})).await;
    assert_eq!(
        (status, again["code"].as_str()),
        (404, Some("dead_letter_not_found"))
    );
    // The new job fails for the same reason, and is another dead letter.
    let second = dead(product, "echidnaday").await;
    assert!(second["sequence"].as_u64() > letter["sequence"].as_u64());
    assert!(second["body"].as_str().unwrap().contains("replay_of"));
    assert!(
        replayed["job_id"]
            .as_str()
            .unwrap()
            .starts_with(second["job_id"].as_str().unwrap())
    );
    let path = format!("{}/v1/dead-letters/{}", product.api, second["sequence"]);
    for _ in 0..2 {
        let deleted = product.http.delete(&path).send().await.unwrap();
        assert_eq!(deleted.status().as_u16(), 204);
    }
}

#[tokio::test]
async fn a_malformed_message_cannot_be_replayed() {
    let product = shared().await;
    product
        .publish("jobs.v1.default.normal.summarize.public", "{\"wombatfair\": ")
        .await;
    let letter = dead(product, "wombatfair").await;
    let path = format!("/v1/dead-letters/{}", letter["sequence"]);
    let (status, problem) = product.post(&format!("{path}/replay"), &json!({})).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (409, Some("not_replayable")),
        "{problem}"
    );
    assert_eq!(product.get(&path).await.0, 200);
    for (bad, status) in [("?limit=0", 422), ("?nope=1", 400), ("/x", 400)] {
        assert_eq!(
            product.get(&format!("/v1/dead-letters{bad}")).await.0,
            status,
            "{bad}"
        );
    }
    // Pages of one letter reach the end without repeating one.
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let (_, page) = product.get(&format!("/v1/dead-letters?limit=1{before}")).await;
        seen.extend(
            page["dead_letters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["sequence"].as_u64().unwrap()),
        );
        let Some(next) = page["next"].as_u64() else { break };
        before = format!("&before={next}");
    }
    assert!(seen.contains(&letter["sequence"].as_u64().unwrap()));
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
}
