//! Rows when the monitor is killed, or ClickHouse is down, slow, full, or refuses a row.
//!
//! The invariant: exactly as many rows as jobs, in the table, in every rollup and in every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use futures::future::join_all;
use precis_runtime::clock;
use precis_schemas::rest::Status;
use precis_schemas::topology::{RESULTS, clickhouse_sink_consumer};
use precis_schemas::{JobId, subject};
use precis_tests::processes::{self, Other};
use precis_tests::product::free_port;
use precis_tests::{Options, Process, Product, eventually, samples};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(180);
const RESULT: &str = include_str!("../../schemas/wire/v1/result.succeeded.json");

/// Starts servers and API. Tests start the monitor themselves.
async fn product() -> Product {
    let settings = [
        "standalone.start_monitor=false",
        // Results of a killed monitor are redelivered after four seconds.
        "monitor.ack_wait_seconds=4",
        "monitor.max_block_rows=100",
    ];
    let options = Options {
        workers: 0,
        settings: settings.map(str::to_owned).into(),
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

/// Publishes results as workers do, with a long text so that an insert takes a while.
async fn publish(context: &async_nats::jetstream::Context, ids: impl Iterator<Item = String>) {
    publish_with(
        context,
        ids,
        &json!({"text": "Rain fell on the coast. ".repeat(200)}),
    )
    .await;
}

/// Like [`publish`], with these fields.
async fn publish_with(
    context: &async_nats::jetstream::Context,
    ids: impl Iterator<Item = String>,
    fields: &Value,
) {
    let now = clock::now().to_string();
    let sent = ids.map(|id| {
        let mut result: Value = serde_json::from_str(RESULT).unwrap();
        result["id"] = json!(id);
        for time in ["submitted_at", "started_at", "finished_at"] {
            result[time] = json!(now);
        }
        for (name, value) in fields.as_object().unwrap() {
            result[name] = value.clone();
        }
        let subject = subject::result_of(&id.parse::<JobId>().unwrap());
        context.publish(subject, result.to_string().into())
    });
    for acknowledged in join_all(sent).await {
        acknowledged.unwrap().await.unwrap();
    }
}

fn clickhouse(product: &Product) -> Other {
    let all = processes::mentioning(&product.data());
    let is_it = |process: &Other| process.arguments.get(1).is_some_and(|role| role == "clickhouse");
    all.into_iter().find(is_it).expect("ClickHouse runs")
}

fn signal(process: &Other, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process.id).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits until every job has its row, and checks that none has two: in the table, the view, the rollups and the API's
/// answers.
async fn rows_are_jobs(product: &Product, jobs: u64) {
    let count = async |sql: &str| {
        let rows = product.try_query(sql).await.ok()?;
        rows[0]["n"].as_u64()
    };
    eventually(PATIENCE, "every job has a row", async || {
        let found = count("SELECT uniqExact(job_id) AS n FROM prediction_versions").await?;
        (found == jobs).then_some(())
    })
    .await;
    for sql in [
        "SELECT count() AS n FROM prediction_versions",
        "SELECT count() AS n FROM predictions",
    ] {
        assert_eq!(count(sql).await, Some(jobs), "{sql}");
    }
    for table in ["prediction_minutes", "prediction_hours", "prediction_days"] {
        let sql = format!("SELECT sum(predictions) AS n FROM {table} FINAL");
        eventually(PATIENCE, "the rollups are refreshed", async || {
            let found = count(&sql).await?;
            assert!(found <= jobs, "{found} of {jobs} in {table}");
            (found == jobs).then_some(())
        })
        .await;
    }
    for (query, column) in [
        ("throughput?bucket=minute", "count"),
        ("lengths?bucket=hour", "count"),
        ("scores?bucket=day", "count"),
        ("score_distribution?score=bleu", "count"),
        ("models?", "scored"),
        ("channels?", "referenced"),
    ] {
        let (status, answer) = product
            .get(&format!("/v1/analytics/{query}&from=now-2h&to=now-0s"))
            .await;
        assert_eq!(status, 200, "{answer}");
        let rows = answer["data"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row[column].as_u64().unwrap()).sum();
        assert_eq!(sum, jobs, "{query}: {answer}");
    }
}

/// Kills the monitor `kills` times, at reproducible points, while results keep arriving.
async fn kill_again_and_again(kills: u64) {
    let product = product().await;
    let context = product.nats().await;
    let enough = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn({
        let (context, enough) = (context.clone(), Arc::clone(&enough));
        async move {
            let mut jobs = 0;
            while !enough.load(Ordering::Relaxed) {
                publish(&context, (jobs..jobs + 10).map(|job| format!("job-{job}"))).await;
                jobs += 10;
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            jobs
        }
    });
    // The first monitor creates the schema and is killed while it stores rows.
    let first = product.command("monitor", "monitor-0", &[]);
    eventually(PATIENCE, "rows are stored", async || {
        let rows = product.try_query("SELECT count() AS n FROM predictions").await;
        (rows.ok()?[0]["n"].as_u64()? > 0).then_some(())
    })
    .await;
    first.kill();
    let mut pause = 17_u64;
    for kill in 1..kills {
        let monitor = product.command("monitor", &format!("monitor-{kill}"), &[]);
        // Somewhere between startup and about the tenth block.
        pause = (pause * 7_919 + kill) % 1_201;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        monitor.kill();
    }
    enough.store(true, Ordering::Relaxed);
    let jobs = publishing.await.expect("results were published");
    let _last: Process = product.command("monitor", "monitor-last", &[]);
    rows_are_jobs(&product, jobs).await;
}

#[tokio::test]
async fn a_monitor_killed_at_any_time_loses_and_duplicates_no_row() {
    kill_again_and_again(12).await;
}

/// `cargo test --workspace --test e2e -- --ignored fifty_times`
#[tokio::test]
#[ignore = "takes minutes; the one above does the same in fewer rounds"]
async fn a_monitor_killed_fifty_times_loses_and_duplicates_no_row() {
    kill_again_and_again(50).await;
}

#[tokio::test]
async fn rows_survive_a_clickhouse_that_dies_hangs_fills_up_or_refuses_one() {
    let product = product().await;
    let _monitor = product.command("monitor", "monitor", &[]);
    let context = product.nats().await;
    let ids = |name: &'static str| (0..150).map(move |job| format!("{name}-{job}"));
    publish(&context, ids("first")).await;
    rows_are_jobs(&product, 150).await;

    // Killed while busy, then restarted by `precis up`.
    publish(&context, ids("killed")).await;
    clickhouse(&product).kill();
    publish(&context, ids("away")).await;
    rows_are_jobs(&product, 450).await;

    // So slow that inserts time out here and complete there.
    let slow = clickhouse(&product);
    signal(&slow, Signal::STOP);
    publish(&context, ids("slow")).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    signal(&slow, Signal::CONT);
    rows_are_jobs(&product, 600).await;

    // Full: the engine's own error.
    let full = "ALTER TABLE prediction_versions MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000";
    product.query(full).await;
    let refused = product
        .try_query("INSERT INTO prediction_versions (job_id) VALUES ('x')")
        .await;
    assert!(refused.unwrap_err().contains("NOT_ENOUGH_SPACE"));
    let before = retries(&product).await;
    publish(&context, ids("full")).await;
    eventually(PATIENCE, "inserts fail and are retried", async || {
        (retries(&product).await > before).then_some(())
    })
    .await;
    product
        .query("ALTER TABLE prediction_versions RESET SETTING min_free_disk_bytes_to_perform_insert")
        .await;
    rows_are_jobs(&product, 750).await;

    // One refused row is dead-lettered and affects no other.
    product
        .query("ALTER TABLE prediction_versions ADD CONSTRAINT no_poison CHECK job_id != 'poison'")
        .await;
    let before = product.last_dead_letter().await;
    let with_poison = ids("good").chain(["poison".into()]);
    publish(
        &context,
        with_poison.chain((0..50).map(|job| format!("after-{job}"))),
    )
    .await;
    let letter = product
        .dead_letter(before, |letter| letter.subject == "results.v1.poison")
        .await;
    assert!(
        letter.reason.message.contains("no_poison"),
        "{}",
        letter.reason.message
    );
    rows_are_jobs(&product, 950).await;
}

/// Returns the number of insert retries.
async fn retries(product: &Product) -> f64 {
    let found = metric(product, "precis_monitor_insert_retries_total").await;
    found.expect("the monitor runs")
}

/// Returns the value of a monitor metric, or `None` while no monitor runs.
async fn metric(product: &Product, name: &str) -> Option<f64> {
    let address = format!("{}/metrics", product.monitor);
    let metrics = product.http.get(address).send().await.ok()?.text().await.ok()?;
    let line = metrics.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Starts a monitor that dies as soon as ClickHouse confirms its first block of this kind, before it acknowledges
/// anything.
pub(crate) fn dying_monitor(product: &Product, kind: &str) -> Process {
    let variable = ("PRECIS_FAULT_DIE_AFTER_INSERT", kind);
    product.command_with("monitor", &format!("monitor-dying-{kind}"), variable)
}

/// Waits until such a monitor has exited.
pub(crate) async fn is_dead(mut monitor: Process) {
    let status = monitor.ended(PATIENCE).await;
    assert_eq!(status.code(), None, "it was aborted: {}", monitor.output());
}

#[tokio::test]
async fn unacknowledged_rows_are_redelivered_and_count_once() {
    let product = product().await;
    let context = product.nats().await;
    publish(&context, (0..250).map(|job| format!("job-{job}"))).await;
    is_dead(dying_monitor(&product, "results")).await;
    let stored = product
        .query("SELECT count() AS n FROM prediction_versions")
        .await[0]["n"]
        .as_u64()
        .unwrap();
    assert!((1..=100).contains(&stored), "{stored}");
    let results = context.get_stream(RESULTS).await.unwrap();
    let consumer: PullConsumer = results
        .get_consumer(&clickhouse_sink_consumer().name)
        .await
        .unwrap();
    // Stored results were delivered, and all will be redelivered.
    let info = consumer.cached_info();
    assert_eq!(info.ack_floor.stream_sequence, 0);
    assert!(info.num_ack_pending as u64 >= stored, "{}", info.num_ack_pending);
    let _monitor = product.command("monitor", "monitor-after", &[]);
    rows_are_jobs(&product, 250).await;
}

#[tokio::test]
async fn a_clickhouse_outage_affects_no_client_and_memory_stays_flat() {
    let product = product().await;
    let context = product.nats().await;
    // The lag is reported even if the database never existed.
    let nowhere = format!("clickhouse.url=http://127.0.0.1:{}", free_port());
    let waiting = product.command("monitor", "monitor-waiting", &[nowhere]);
    publish(&context, (0..20).map(|job| format!("early-{job}"))).await;
    eventually(
        PATIENCE,
        "the metrics show the lag and the failures",
        async || {
            let lag = metric(&product, "precis_monitor_lag_messages{sink=\"clickhouse\"}").await?;
            let failed = metric(&product, "precis_monitor_insert_retries_total").await?;
            (lag >= 20.0 && failed >= 1.0).then_some(())
        },
    )
    .await;
    waiting.kill();
    // Results that expire from the stream meanwhile are missed and counted.
    let results = context.get_stream(RESULTS).await.unwrap();
    for sequence in 1..=5 {
        results.delete_message(sequence).await.unwrap();
    }
    let monitor = product.command("monitor", "monitor", &[]);
    rows_are_jobs(&product, 15).await;
    let missed = metric(
        &product,
        "precis_monitor_messages_missed_total{sink=\"clickhouse\"}",
    );
    assert_eq!(missed.await, Some(5.0));

    let _worker = product.worker("only", &[]);
    let clickhouse = clickhouse(&product);
    signal(&clickhouse, Signal::STOP);
    let before = monitor.resident_bytes();
    // In the metadata, because scoring long texts takes time.
    let large = json!({"metadata": {"padding": "x".repeat(20_000)}});
    for round in 0..30 {
        let ids = (0..100).map(|job| format!("many-{round}-{job}"));
        publish_with(&context, ids, &large).await;
    }
    let published = 30 * 100 * 20_000;
    // The gateway and the worker do not wait for it either.
    let sample = samples::get("tramway-fare-free");
    let done = product
        .summarize(&json!({"text": sample.article, "reference": sample.reference}))
        .await;
    assert_eq!(done.status, Status::Succeeded);
    eventually(PATIENCE, "inserts fail and are retried", async || {
        (retries(&product).await >= 2.0).then_some(())
    })
    .await;
    let grown = monitor.resident_bytes().saturating_sub(before);
    assert!(
        grown < published / 2,
        "{grown} bytes more after {published} bytes of texts"
    );
    signal(&clickhouse, Signal::CONT);
    rows_are_jobs(&product, 15 + 3_000 + 1).await;
}
