//! Late references in difficult cases: a summary that is no longer stored, rollups that cannot be recomputed, a monitor
//! that dies.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use precis_runtime::clock;
use precis_schemas::reference::LateReference;
use precis_schemas::topology::RESULTS;
use precis_schemas::{JobId, Token, subject};
use precis_tests::{Options, Product, eventually};
use serde_json::{Value, json};

use crate::PROGRAM;
use crate::monitor_faults::{dying_monitor, is_dead};

const PATIENCE: Duration = Duration::from_secs(90);

async fn product(settings: &[&str]) -> Product {
    let settings = settings.iter().map(|text| (*text).to_owned()).collect();
    let options = Options {
        workers: 0,
        settings,
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

/// Publishes a reference directly, bypassing the gateway's checks.
async fn publish(product: &Product, id: &str, reference: &str) {
    let id: JobId = id.parse().unwrap();
    let late = LateReference {
        id: id.clone(),
        tenant: Token::new("the tenant", "public").unwrap(),
        reference: reference.to_owned(),
        received_at: clock::now(),
    };
    let body = serde_json::to_vec(&late).unwrap();
    product.publish(&subject::reference_of(&id), body).await;
}

/// Waits until the monitor is ready.
async fn is_ready(product: &Product) {
    let ready = format!("{}/readyz", product.monitor);
    eventually(PATIENCE, "the monitor is ready", async || {
        let ready = product.http.get(&ready).send().await.ok()?;
        ready.status().is_success().then_some(())
    })
    .await;
}

/// Logs an external prediction and waits for its row.
async fn logged(product: &Product, summary: &str, target: Option<&str>) -> Value {
    let body = json!({"article": "It rained all day long.", "summ": summary, "target": target});
    let url = format!("{}/log/online", product.monitor);
    let sent = product.http.post(url).json(&body).send().await.unwrap();
    assert!(sent.status().is_success());
    let chars = summary.chars().count();
    let sql = format!("SELECT * FROM predictions WHERE summary_chars = {chars}");
    eventually(PATIENCE, "the row exists", async || {
        product.query(&sql).await.pop()
    })
    .await
}

async fn row_of(product: &Product, id: &str) -> Value {
    let sql = format!("SELECT * FROM predictions WHERE job_id = '{id}'");
    product.query(&sql).await.remove(0)
}

async fn number(product: &Product, sql: &str) -> Option<u64> {
    product.try_query(sql).await.ok()?.pop()?["n"].as_u64()
}

#[tokio::test]
async fn an_unscorable_reference_changes_nothing_and_is_dead_lettered() {
    let product = product(&["standalone.start_monitor=false"]).await;
    let hashing = product.command("monitor", "monitor-hash", &["monitor.texts=hash".into()]);
    is_ready(&product).await;
    let row = logged(&product, "It rained all day.", Some("Rain fell all day.")).await;
    let id = row["job_id"].as_str().unwrap().to_owned();
    assert!(row["rouge1"].as_f64().is_some_and(|score| score > 0.0), "{row}");
    let hash = |text: &Value| {
        let digits = text.as_str().unwrap();
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(
        ["text", "summary", "reference"]
            .iter()
            .all(|column| hash(&row[column])),
        "{row}"
    );
    assert_eq!(row["text_policy"], "hash");
    // ClickHouse has a hash of the summary. The result has the summary itself for as long as it is stored.
    let results = product.nats().await.get_stream(RESULTS).await.unwrap();
    results.purge().await.unwrap();
    let (status, problem) = product
        .post(
            &format!("/v1/jobs/{id}/reference"),
            &json!({"reference": "Other."}),
        )
        .await;
    assert_eq!((status, &problem["code"]), (410, &json!("job_gone")), "{problem}");
    // A reference published directly changes nothing either.
    let before = product.last_dead_letter().await;
    publish(&product, &id, "Other.").await;
    let letter = product
        .dead_letter(before, |letter| letter.subject.starts_with("references.v1."))
        .await;
    assert!(
        letter.reason.message.contains("no longer kept"),
        "{}",
        letter.reason
    );
    // The dead letter contains no text either.
    assert_eq!((&letter.body, &letter.body_base16), (&None, &None));
    assert_eq!(row_of(&product, &id).await, row);

    // A blank reference cannot be compared with an existing summary.
    let row = logged(&product, "Rain fell.", Some("Rain fell all day.")).await;
    let id = row["job_id"].as_str().unwrap().to_owned();
    let before = product.last_dead_letter().await;
    publish(&product, &id, "  ").await;
    let letter = product
        .dead_letter(before, |letter| letter.subject.starts_with("references.v1."))
        .await;
    assert!(letter.reason.message.contains("empty"), "{}", letter.reason);
    assert_eq!(row_of(&product, &id).await, row);

    // Without stored texts there are still scores.
    hashing.kill();
    let _keeping_none = product.command("monitor", "monitor-none", &["monitor.texts=none".into()]);
    is_ready(&product).await;
    let row = logged(&product, "Rain, all day long.", Some("Rain fell all day.")).await;
    let texts = ["text", "summary", "reference", "text_policy"].map(|column| row[column].as_str().unwrap());
    assert_eq!(texts, ["", "", "", "none"]);
    assert!(row["rouge1"].is_number() && row["coverage"].is_number(), "{row}");
}

/// Returns the settled references by outcome.
async fn counted_references(product: &Product) -> BTreeMap<String, u64> {
    let metrics = product.http.get(format!("{}/metrics", product.monitor)).send();
    let metrics = metrics.await.unwrap().text().await.unwrap();
    let lines = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("precis_monitor_references_total{outcome=\""));
    lines
        .map(|line| {
            let (outcome, count) = line.split_once("\"} ").unwrap();
            (outcome.to_owned(), count.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn every_late_reference_counts_in_exactly_one_outcome() {
    let product = product(&["standalone.start_monitor=false"]).await;
    let first = product.command("monitor", "monitor-first", &[]);
    is_ready(&product).await;
    let row = logged(&product, "It rained all day.", None).await;
    let id = row["job_id"].as_str().unwrap().to_owned();
    let failed = json!({"job_id": "failed", "finished_at": row["finished_at"], "submitted_at": row["finished_at"],
        "tenant": "public", "outcome": "failed", "error_code": "inference_failed", "text_policy": "full", "model": "m"});
    product.insert("prediction_versions", &[failed]).await;
    first.kill();
    // They arrive in one pull.
    for turn in 0..20 {
        publish(&product, &id, &format!("Rain fell all day for {turn} hours.")).await;
    }
    publish(&product, "failed", "Rain fell all day.").await;
    publish(&product, "failed", " ").await;
    publish(&product, "unknown", "Rain fell all day.").await;
    product.publish("references.v1.unreadable", b"{}".to_vec()).await;
    let _second = product.command("monitor", "monitor-second", &[]);
    is_ready(&product).await;
    let counted = eventually(PATIENCE, "all but the waiting one are settled", async || {
        let counted = counted_references(&product).await;
        (counted.values().sum::<u64>() == 23).then_some(counted)
    })
    .await;
    assert!(counted["scored"] >= 1, "{counted:?}");
    // The blank one is the latest of the failed job. In a pull of its own, the other one is stored.
    assert_eq!(
        counted["unscored"] + counted["superseded"],
        21 - counted["scored"],
        "{counted:?}"
    );
    assert_eq!((counted["refused"], counted["repeated"]), (2, 0), "{counted:?}");
    let scored = row_of(&product, &id).await;
    assert_eq!(scored["reference"], "Rain fell all day for 19 hours.");
}

#[tokio::test]
async fn the_reference_of_a_failed_job_is_stored_without_scores() {
    let product = product(&[]).await;
    let now = clock::now().strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
    let failed = json!({"job_id": "failed", "finished_at": now, "submitted_at": now, "tenant": "public",
        "outcome": "failed", "error_code": "inference_failed", "text_policy": "full", "model": "m"});
    is_ready(&product).await;
    product.insert("prediction_versions", &[failed]).await;
    let before = product.last_dead_letter().await;
    publish(&product, "failed", "Rain fell all day.").await;
    let sql = "SELECT * FROM predictions WHERE reference_chars > 0";
    let row = eventually(PATIENCE, "the reference is stored", async || {
        product.query(sql).await.pop()
    })
    .await;
    assert_eq!(
        (row["reference"].as_str(), &row["rouge1"]),
        (Some("Rain fell all day."), &Value::Null)
    );
    assert_eq!(product.last_dead_letter().await, before);
}

#[tokio::test]
async fn hour_rollups_without_minutes_stay_unchanged() {
    let product = product(&[]).await;
    let hour = clock::now() - SignedDuration::from_hours(5 * 24);
    let at = |minute: i64| {
        let begin = hour.as_second().div_euclid(3_600) * 3_600 + minute * 60;
        let time = Timestamp::from_second(begin).unwrap();
        time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
    };
    let rows: Vec<Value> = [3, 20, 41]
        .into_iter()
        .map(|minute| {
            json!({"job_id": format!("old-{minute}"), "finished_at": at(minute), "submitted_at": at(minute),
                "tenant": "public", "outcome": "succeeded", "text_policy": "full", "summary": "It rained.",
                "summary_chars": 10, "model": "m"})
        })
        .collect();
    let table = "SELECT count() AS n FROM system.tables WHERE database = 'precis' AND name = 'dirty_minutes'";
    eventually(PATIENCE, "the schema exists", async || {
        (number(&product, table).await? == 1).then_some(())
    })
    .await;
    product.insert("prediction_versions", &rows).await;
    let counted = "SELECT sum(predictions) AS n FROM prediction_hours FINAL WHERE model = 'm'";
    eventually(PATIENCE, "the hour's rollup is computed", async || {
        (number(&product, counted).await? == 3).then_some(())
    })
    .await;

    // A reference counts while the rollups by minute exist.
    publish(&product, "old-3", "It rained all day.").await;
    let scored = "SELECT sum(scored) AS n FROM prediction_hours FINAL WHERE model = 'm'";
    eventually(PATIENCE, "the hour's rollup contains the reference", async || {
        (number(&product, scored).await? == 1).then_some(())
    })
    .await;
    assert_eq!(number(&product, counted).await, Some(3));

    // Simulate minute rollups that have expired, as after a raised `text_ttl_days`.
    product.query("TRUNCATE TABLE dirty_minutes").await;
    product.query("SYSTEM WAIT VIEW prediction_minutes_view").await;
    product
        .query("ALTER TABLE prediction_minutes DELETE WHERE model = 'm' SETTINGS mutations_sync = 2")
        .await;
    let before = product.last_dead_letter().await;
    publish(&product, "old-20", "It rained all day.").await;
    let letter = product
        .dead_letter(before, |letter| letter.subject == "references.v1.old-20")
        .await;
    assert!(letter.reason.message.contains("too old"), "{}", letter.reason);
    // No minute is marked, so nothing is recomputed.
    assert_eq!(
        number(&product, "SELECT count() AS n FROM dirty_minutes").await,
        Some(0)
    );
    assert_eq!(number(&product, counted).await, Some(3));
}

#[tokio::test]
async fn a_reference_stored_by_a_dead_monitor_counts_once() {
    let product = product(&["standalone.start_monitor=false", "monitor.ack_wait_seconds=4"]).await;
    let first = product.command("monitor", "monitor-first", &[]);
    is_ready(&product).await;
    let row = logged(&product, "It rained all day.", None).await;
    let id = row["job_id"].as_str().unwrap().to_owned();
    let counted = "SELECT sum(predictions) AS n FROM prediction_minutes FINAL";
    eventually(PATIENCE, "the minute's rollup is computed", async || {
        (number(&product, counted).await? == 1).then_some(())
    })
    .await;
    first.kill();

    // The monitor dies between the row and the acknowledgement, and the minute's mark is lost too.
    product.query("SYSTEM STOP VIEW prediction_minutes_view").await;
    let dying = dying_monitor(&product, "references");
    publish(&product, &id, "Rain fell all day.").await;
    is_dead(dying).await;
    let after = row_of(&product, &id).await;
    assert!(after["rouge1"].is_number(), "{after}");
    product.query("TRUNCATE TABLE dirty_minutes").await;
    product.query("SYSTEM START VIEW prediction_minutes_view").await;
    let _last = product.command("monitor", "monitor-last", &[]);
    let scored = "SELECT sum(scored) AS n FROM prediction_minutes FINAL";
    eventually(PATIENCE, "the rollups contain the score", async || {
        (number(&product, scored).await? == 1).then_some(())
    })
    .await;
    assert_eq!(number(&product, counted).await, Some(1));
    let versions = format!("SELECT count() AS n FROM prediction_versions FINAL WHERE job_id = '{id}'");
    assert_eq!(number(&product, &versions).await, Some(1));
    assert_eq!(row_of(&product, &id).await, after);
}
