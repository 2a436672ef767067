//! Migrations of existing data, retention, and the text policy.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use precis_runtime::clock;
use precis_schemas::{migrations, queries};
use precis_tests::product::free_port;
use precis_tests::{Options, Process, Product, eventually};
use serde_json::{Value, json};

use crate::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(90);

async fn without_workers(settings: &[&str]) -> Product {
    let settings = settings.iter().map(|text| (*text).to_owned()).collect();
    Product::start(
        PROGRAM,
        Options {
            workers: 0,
            settings,
            ..Options::default()
        },
    )
    .await
}

/// Starts another monitor.
fn another_monitor(product: &Product, name: &str, settings: &[&str]) -> Process {
    let mut all = vec![format!("monitor.listen=127.0.0.1:{}", free_port())];
    all.extend(settings.iter().map(|text| (*text).to_owned()));
    product.command("monitor", name, &all)
}

fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

#[tokio::test]
async fn a_database_of_the_first_version_is_migrated_and_expires_data() {
    let product = without_workers(&[]).await;
    product.query("CREATE DATABASE old").await;
    let old = |sql: &str| {
        sql.replace("prediction_rows", "old.prediction_rows").replace(
            "VIEW IF NOT EXISTS predictions",
            "VIEW IF NOT EXISTS old.predictions",
        )
    };
    for statement in migrations::ALL[0].statements() {
        product.query(&old(&statement)).await;
    }
    product
        .query("CREATE TABLE old.schema_migrations AS precis.schema_migrations")
        .await;
    product
        .query("INSERT INTO old.schema_migrations SELECT * FROM precis.schema_migrations WHERE version = 1")
        .await;
    let now = clock::now();
    for (days, id) in [(0, "new"), (5, "middle"), (20, "ancient"), (0, "new")] {
        let at = written(now - SignedDuration::from_hours(24 * days));
        product
            .query(&format!(
                "INSERT INTO old.prediction_rows (job_id, finished_at, submitted_at, model, outcome, rouge1, text, summary)
                 SELECT '{id}', '{at}', '{at}', 'm', 'succeeded', 0.5, 'A text.', 'A summary.'"
            ))
            .await;
    }
    let keep = [
        "clickhouse.database=old",
        "clickhouse.text_ttl_days=3",
        "clickhouse.row_ttl_days=10",
    ];
    let monitor = another_monitor(&product, "old", &keep);
    let versions = "SELECT version FROM old.schema_migrations FINAL ORDER BY version";
    eventually(PATIENCE, "every migration is applied", async || {
        (product.query(versions).await.len() == migrations::ALL.len()).then_some(())
    })
    .await;
    // Every row exists once, with all its values.
    let rows = product
        .query("SELECT job_id, rouge1, bleu, text_policy FROM old.predictions WHERE job_id != 'ancient' ORDER BY job_id")
        .await;
    let row = |id: &str| json!({"job_id": id, "rouge1": 0.5, "bleu": null, "text_policy": "full"});
    assert_eq!(rows, [row("middle"), row("new")]);
    let rollups = "SELECT sum(predictions) AS n, sum(rouge1_sum) AS rouge1 FROM old.prediction_minutes FINAL
        WHERE minute > now() - INTERVAL 2 DAY";
    eventually(PATIENCE, "the rollups of the old data are computed", async || {
        (product.query(rollups).await == [json!({"n": 1, "rouge1": 0.5})]).then_some(())
    })
    .await;
    let definition = "SELECT create_table_query AS q FROM system.tables WHERE database = 'old' AND name = 'prediction_hours'";
    eventually(PATIENCE, "the retention is set", async || {
        product.query(definition).await[0]["q"]
            .as_str()
            .unwrap()
            .contains("toIntervalDay(10)")
            .then_some(())
    })
    .await;
    product
        .query("OPTIMIZE TABLE old.prediction_versions FINAL")
        .await;
    let rows = product
        .query("SELECT job_id, text, summary FROM old.predictions ORDER BY job_id")
        .await;
    assert_eq!(
        rows,
        [
            json!({"job_id": "middle", "text": "", "summary": ""}),
            json!({"job_id": "new", "text": "A text.", "summary": "A summary."}),
        ]
    );

    // A longer retention does not bring back minute rollups that have expired.
    drop(monitor);
    let longer = [
        "clickhouse.database=old",
        "clickhouse.text_ttl_days=9",
        "clickhouse.row_ttl_days=10",
    ];
    let _monitor = another_monitor(&product, "old", &longer);
    let horizon = "SELECT as_select AS q, intDiv(dateDiff('hour', (SELECT since FROM old.rollup_horizon), now('UTC')), 24) AS days
        FROM system.tables WHERE database = 'old' AND name = 'rollup_horizon'";
    let days = eventually(PATIENCE, "the retention is longer", async || {
        let view = product.query(horizon).await.remove(0);
        let is_set = view["q"].as_str().unwrap().contains("toIntervalDay(9)");
        is_set.then(|| view["days"].clone())
    })
    .await;
    assert_eq!(days, 3);
}

/// Runs a statement, or a named query over an unrestricted window, in the database `old`.
async fn in_old(product: &Product, sql: &str, from: Timestamp, to: Timestamp) -> Vec<Value> {
    let window = [("param_from", written(from)), ("param_to", written(to))];
    let response = product
        .http
        .post(format!(
            "{}/?database=old&default_format=JSONEachRow&param_model=&param_channel=&param_tenant=\
             &param_outcome=all&param_group_by=none",
            product.clickhouse
        ))
        .query(&window)
        .body(sql.to_owned())
        .send()
        .await
        .unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{sql}: {text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn percentiles_survive_the_migration_from_sketches_to_histograms() {
    const WITH_SKETCHES: usize = 8;
    let product = without_workers(&[]).await;
    let now = clock::now();
    let ago = |days: i64| now - SignedDuration::from_hours(24 * days);
    product.query("CREATE DATABASE old").await;
    let before = migrations::ALL[..WITH_SKETCHES]
        .iter()
        .flat_map(migrations::Migration::statements);
    let ledger = [
        "CREATE TABLE schema_migrations AS precis.schema_migrations".to_owned(),
        format!(
            "INSERT INTO schema_migrations SELECT * FROM precis.schema_migrations WHERE version <= {WITH_SKETCHES}"
        ),
    ];
    // Hours whose minutes and predictions have expired, one of them beyond the default retention, and predictions that
    // still exist.
    let data = [
        "ALTER TABLE prediction_hours MODIFY TTL minute + toIntervalDay(800)".to_owned(),
        "INSERT INTO prediction_hours (minute, model, version, predictions, end_to_end_ms)
         SELECT toStartOfHour(now() - INTERVAL 500 DAY), 'm', now64(3), 1000, quantilesDDState(0.01, 0.5)(toFloat64(number))
         FROM numbers(1, 1000)"
            .to_owned(),
        "INSERT INTO prediction_hours (minute, model, version, predictions, end_to_end_ms)
         SELECT toStartOfHour(now() - INTERVAL 40 DAY), 'm', now64(3), 1000, quantilesDDState(0.01, 0.5)(toFloat64(number))
         FROM numbers(1, 1000)"
            .to_owned(),
        "INSERT INTO prediction_versions (job_id, finished_at, model, outcome, end_to_end_ms)
         SELECT toString(number), now() - INTERVAL 3 DAY, 'm', 'succeeded', number FROM numbers(1, 1000)"
            .to_owned(),
    ];
    for statement in before.chain(ledger).chain(data) {
        in_old(&product, &statement, now, now).await;
    }
    // Two migrations at once: tables are replaced as a whole, so neither can lose what the other copied.
    let settings = ["clickhouse.database=old", "clickhouse.row_ttl_days=800"];
    let _monitors = ["old-1", "old-2"].map(|name| another_monitor(&product, name, &settings));
    let applied = "SELECT version FROM schema_migrations FINAL";
    eventually(PATIENCE, "every migration is applied", async || {
        (in_old(&product, applied, now, now).await.len() == migrations::ALL.len()).then_some(())
    })
    .await;
    let latency = queries::find("latency").unwrap();
    in_old(&product, "OPTIMIZE TABLE prediction_hours FINAL", now, now).await;
    for days in [500, 40, 3] {
        eventually(PATIENCE, "the percentiles equal those of 1 to 1000", async || {
            let rows = in_old(&product, latency.sql, ago(days + 1), ago(days - 1)).await;
            let row = rows.iter().find(|row| row["stage"] == "end_to_end")?;
            let close =
                |column: &str, value: f64| (row[column].as_f64().unwrap() / value - 1.0).abs() < 0.021;
            (close("p50_ms", 500.0) && close("p90_ms", 900.0) && close("p99_ms", 990.0)).then_some(())
        })
        .await;
    }
    // Granules of few rows keep reads at a window's edge small.
    for table in ["prediction_minutes", "prediction_hours", "prediction_days"] {
        let definition = format!(
            "SELECT create_table_query AS q FROM system.tables WHERE database = currentDatabase() AND name = '{table}'"
        );
        let rows = in_old(&product, &definition, now, now).await;
        let text = rows[0]["q"].as_str().unwrap();
        assert!(text.contains("index_granularity = 256"), "{text}");
    }
    // No leftover tables remain when both are done.
    let tables = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%tmp%'";
    eventually(PATIENCE, "no leftover table remains", async || {
        in_old(&product, tables, now, now).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn texts_follow_the_policy_and_are_scored_in_full() {
    let product = without_workers(&["monitor.texts=truncated", "monitor.text_chars=7"]).await;
    let body = json!({"article": "It rained all day long.", "summ": "It rained all day.", "target": "Rain all day."});
    let sent = product
        .http
        .post(format!("{}/log/online", product.monitor))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(sent.status().is_success());
    let row = async |wanted: &str| {
        eventually(PATIENCE, "the row exists", async || {
            let sql = format!("SELECT * FROM predictions WHERE reference = '{wanted}'");
            product.query(&sql).await.pop()
        })
        .await
    };
    let first = row("Rain al").await;
    assert_eq!(
        (&first["text"], &first["summary"], &first["text_policy"]),
        (&json!("It rain"), &json!("It rain"), &json!("truncated"))
    );
    // "all day" of "it rained all day" and "rain all day": 2 of 4 and 2 of 3.
    assert!(
        (first["rouge1"].as_f64().unwrap() - 4.0 / 7.0).abs() < 1e-9,
        "{first}"
    );
    let path = format!("/v1/jobs/{}/reference", first["job_id"].as_str().unwrap());
    let (status, answer) = product
        .post(&path, &json!({"reference": "It rained all day."}))
        .await;
    assert_eq!(status, 202, "{answer}");
    // The row has only the beginning of the summary, the result all of it.
    assert_eq!(row("It rain").await["rouge1"], 1.0);
}

const RESULT: &str = include_str!("../../schemas/wire/v1/result.succeeded.json");

#[tokio::test]
async fn batch_articles_are_listed_with_their_latest_summaries() {
    let product = without_workers(&[]).await;
    let now = clock::now();
    let publish = async |id: &str, minutes: i64, summary: &str, more: Value| {
        let mut result: Value = serde_json::from_str(RESULT).unwrap();
        let at = now - SignedDuration::from_mins(minutes);
        result["id"] = json!(id);
        result["summary"] = json!(summary);
        result["finished_at"] = json!(at.to_string());
        for (name, value) in more.as_object().unwrap() {
            result[name] = value.clone();
        }
        product
            .publish(&format!("results.v1.{id}"), result.to_string())
            .await;
    };
    let place = |batch: &str, index: u64| json!({"id": batch, "index": index});
    let about =
        |article: &str| json!({"article_id": article, "title": "Rain", "url": "https://news.example/7"});
    let first = json!({"batch": place("b1", 0), "metadata": about("7")});
    publish("b1-0", 9, "It rained.", first).await;
    publish("b1-1", 9, "It was dry.", json!({"batch": place("b1", 1)})).await;
    let again = json!({"batch": place("b2", 5), "metadata": about("7")});
    publish("b2-5", 3, "It rained all day.", again).await;
    // A different article: it belongs to another tenant.
    let other = json!({"batch": place("b3", 0), "metadata": about("7"), "tenant": "acme"});
    publish("b3-0", 2, "Wet.", other).await;
    // Not articles of a batch: a single job, and a failed one.
    publish("alone", 1, "Alone.", json!({})).await;
    let failed = json!({"batch": place("b2", 6), "outcome": "failed", "summary": null});
    publish("b2-6", 1, "", failed).await;
    eventually(PATIENCE, "all rows exist", async || {
        let rows = product.query("SELECT job_id FROM predictions").await;
        (rows.len() == 6).then_some(())
    })
    .await;
    let rows = product
        .query(
            "SELECT tenant, article_id, title, url, summary, batch_id, batch_index, article != '' AS with_article
             FROM batch_summarization ORDER BY summarized_at",
        )
        .await;
    let row =
        |tenant: &str, article: &str, title: &str, url: &str, summary: &str, batch: &str, index: u64| {
            json!({"tenant": tenant, "article_id": article, "title": title, "url": url, "summary": summary,
            "batch_id": batch, "batch_index": index, "with_article": 1})
        };
    let url = "https://news.example/7";
    assert_eq!(
        rows,
        [
            row("public", "b1-1", "", "", "It was dry.", "b1", 1),
            row("public", "7", "Rain", url, "It rained all day.", "b2", 5),
            row("acme", "7", "Rain", url, "Wet.", "b3", 0),
        ]
    );
}
