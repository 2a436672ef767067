//! `precis producer batch`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use precis_schemas::topology::JOBS;
use precis_tests::{Options, Process, Product, eventually};
use rustix::process::Signal;
use serde_json::Value;

use super::{PATIENCE, no_op, path_text, producer, run};

/// Rows of the large file. Every hundredth is broken.
const ROWS: usize = 10_000;

/// Rows of a file that takes some seconds.
const FEW_ROWS: usize = 2_000;

fn is_broken(row: usize) -> bool {
    row % 100 == 42
}

/// A CSV file with broken rows of every kind.
fn csv_file(rows: usize) -> Vec<u8> {
    let mut file = b"id,article,title\n".to_vec();
    for row in 0..rows {
        let line = match (is_broken(row), row / 100 % 4) {
            (false, _) => format!("{row},\"Caf\u{e9} {row} opens, again. It serves tea.\",T\n"),
            (true, 0) => format!("{row},An unquoted comma, and more,T\n"),
            (true, 1) => format!("{row},\"  \",T\n"),
            (true, 2) => format!("{row},\"He said \"no\" twice.\",T\n"),
            (true, _) => {
                file.extend(format!("{row},Broken ").into_bytes());
                file.push(0xff);
                ",T\n".to_owned()
            }
        };
        file.extend(line.into_bytes());
    }
    file
}

/// Rows of a CSV file by the names of their columns.
fn rows(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    reader
        .deserialize::<std::collections::BTreeMap<String, String>>()
        .map(|row| serde_json::to_value(row.unwrap()).unwrap())
        .collect()
}

/// The number of messages that were ever stored in the queue.
async fn published(product: &Product) -> u64 {
    let mut stream = product.nats().await.get_stream(JOBS).await.unwrap();
    stream.info().await.unwrap().state.last_sequence
}

/// A product that no other test uses.
async fn own() -> Product {
    let options = Options {
        settings: vec!["worker.model=benchmark:no-op".into()],
        ..Options::default()
    };
    Product::start(crate::PROGRAM, options).await
}

/// Waits until a running batch has this many outcomes in its journal.
async fn has_outcomes(process: &mut Process, journal: &Path, count: usize) {
    eventually(PATIENCE, "the batch is on its way", async || {
        assert!(!process.has_exited(), "{}", process.output());
        let text = std::fs::read_to_string(journal).unwrap_or_default();
        let outcomes = text.lines().filter(|line| line.starts_with("{\"row\"")).count();
        (outcomes >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_is_stopped_and_killed_does_every_row_once_and_in_order() {
    let product = own().await;
    let before = published(&product).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("news.csv");
    std::fs::write(&file, csv_file(ROWS)).unwrap();
    let (output, journal) = (
        dir.path().join("news.summaries.csv"),
        dir.path().join("news.summaries.csv.journal"),
    );
    // A tenant of its own, whose jobs are counted in the end.
    let arguments = [
        "batch",
        path_text(&file),
        "--tenant",
        "batchtest",
        "--in-flight",
        "100",
    ];

    let mut stopped = producer(&product, "batch-stopped", &arguments);
    has_outcomes(&mut stopped, &journal, 500).await;
    stopped.signal(Signal::INT);
    let status = stopped.ended(PATIENCE).await;
    let message = stopped.output();
    assert_eq!(status.code(), Some(130), "{message}");
    assert!(message.contains("run the same command again"), "{message}");
    assert!(!output.exists());

    let mut killed = producer(&product, "batch-killed", &arguments);
    has_outcomes(&mut killed, &journal, 2_500).await;
    killed.kill();

    let (code, printed, errors) = run(&product, "batch-resumed", &arguments).await;
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("rows are already done: going on after them"),
        "{errors}"
    );
    assert!(
        errors.contains("error: 100 of 10,000 rows have no summary"),
        "{errors}"
    );
    assert!(
        printed.contains("10,000 rows: 100 failed, 9,900 succeeded"),
        "{printed}"
    );
    assert!(!journal.exists());

    let rows = rows(&output);
    assert_eq!(rows.len(), ROWS);
    for (number, row) in rows.iter().enumerate() {
        if is_broken(number) {
            assert_eq!(
                (row["status"].as_str(), row["summary"].as_str()),
                (Some("failed"), Some("")),
                "{row}"
            );
            let line = format!("(line {})", number + 2);
            assert!(row["error"].as_str().unwrap().ends_with(&line), "{row}");
        } else {
            assert_eq!(row["id"], number.to_string());
            assert_eq!(row["summary"], format!("Caf\u{e9} {number} opens, again."));
            assert_eq!(
                (row["status"].as_str(), row["error"].as_str()),
                (Some("succeeded"), Some(""))
            );
        }
    }
    // No row was published twice.
    assert_eq!(published(&product).await - before, (ROWS - ROWS / 100) as u64);
}

#[tokio::test]
async fn a_batch_with_references_is_scored_in_every_format() {
    let product = no_op().await;
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for row in 0..20 {
        let line = serde_json::json!({
            "key": row, "body": format!("Rain fell on day {row}. It was wet."), "reference": format!("Rain fell on day {row}."),
        });
        writeln!(lines, "{line}").unwrap();
    }
    let file = dir.path().join("news.jsonl");
    std::fs::write(&file, lines).unwrap();
    let output = dir.path().join("scored.csv");
    let options = [
        "--column",
        "article=body",
        "--column",
        "id=key",
        "--output",
        path_text(&output),
        "--json",
    ];
    let arguments = [&["batch", path_text(&file)][..], &options].concat();
    let (code, printed, errors) = run(product, "batch-scored", &arguments).await;
    assert_eq!(code, Some(0), "{errors}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (report["rows"].as_u64(), report["scored"].as_u64()),
        (Some(20), Some(20))
    );
    assert_eq!(report["scores"]["rouge1"]["mean"], 1.0);
    let rows = rows(&output);
    assert_eq!((rows.len(), rows[7]["rougeL"].as_str()), (20, Some("1")));
    // A file of results can be scored again, without a server.
    let arguments = ["score", path_text(&output), "--column", "reference=reference"];
    let (code, printed, errors) = run(product, "score", &arguments).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        printed.contains("rouge1        1.0000   1.0000 to 1.0000"),
        "{printed}"
    );

    // Results are never overwritten by accident.
    let arguments = [&["batch", path_text(&file)][..], &options].concat();
    let (code, _, errors) = run(product, "batch-exists", &arguments).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("scored.csv exists already") && errors.contains("--overwrite"),
        "{errors}"
    );
    let before = published(product).await;
    let (code, ..) = run(
        product,
        "batch-again",
        &[&arguments[..], &["--overwrite"]].concat(),
    )
    .await;
    assert_eq!(code, Some(0));
    assert!(published(product).await >= before + 20);
}

#[tokio::test]
async fn a_batch_waits_while_nats_is_away() {
    let mut product = own().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("news.csv");
    std::fs::write(&file, csv_file(FEW_ROWS)).unwrap();
    let journal = dir.path().join("news.summaries.csv.journal");
    let mut process = producer(
        &product,
        "batch-waits",
        &["batch", path_text(&file), "--in-flight", "100"],
    );
    has_outcomes(&mut process, &journal, 300).await;
    product.down().await;
    eventually(
        Duration::from_secs(60),
        "the command says why it waits",
        async || {
            process
                .output()
                .contains("Waiting, and trying again")
                .then_some(())
        },
    )
    .await;
    product.up().await;
    let status = process.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(3), "{}", process.output());
    assert_eq!(rows(&dir.path().join("news.summaries.csv")).len(), FEW_ROWS);
}
