//! Starting and stopping the whole product.

use std::fs;
use std::time::Duration;

use precis_schemas::rest::Status;
use precis_tests::{Options, Product, id_of, processes, samples};
use serde_json::json;

use crate::{PROGRAM, shared};

#[tokio::test]
async fn a_restart_keeps_data_and_ctrl_c_leaves_no_process() {
    let mut product = Product::start(PROGRAM, Options::default()).await;
    let text = samples::get("tramway-fare-free").article;
    let before = product.summarize(&json!({"text": text})).await;
    let id = id_of(&before.id);
    assert_eq!(product.stored_rows(&id).await.len(), 1);
    let data = product.data();
    assert!(!processes::mentioning(&data).is_empty());
    product.down().await;
    let left = processes::mentioning(&data);
    assert!(left.is_empty(), "{left:?}");

    product.up().await;
    let (status, view) = product.get(&format!("/v1/jobs/{}", before.id)).await;
    assert_eq!(
        (status, view["summary"].as_str()),
        (200, before.summary.as_deref())
    );
    assert_eq!(product.stored_rows(&id).await.len(), 1);
    let after = product.summarize(&json!({"text": text})).await;
    assert_eq!(
        (after.status, &after.summary),
        (Status::Succeeded, &before.summary)
    );
    for view in [&before.id, &after.id] {
        assert_eq!(product.stored_rows(&id_of(view)).await.len(), 1);
    }
    product.down().await;
}

#[tokio::test]
async fn a_second_instance_on_the_same_data_is_refused() {
    let product = shared().await;
    let mut second = product.command("up", "second", &[]);
    let status = second.ended(Duration::from_secs(30)).await;
    assert!(!status.success());
    let output = second.output();
    assert!(
        output.contains("is used by another instance") && output.contains("--data-dir"),
        "{output}"
    );
    assert_eq!(product.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_its_setting() {
    let product = shared().await;
    let elsewhere = format!(
        "standalone.data_dir={}",
        product.dir().join("elsewhere").display()
    );
    let mut second = product.command("up", "taken", &[elsewhere]);
    let status = second.ended(Duration::from_secs(30)).await;
    assert!(!status.success());
    let output = second.output();
    assert!(
        output.contains("is taken") && output.contains("api.listen"),
        "{output}"
    );
}

#[tokio::test]
async fn summarize_and_status_work_beside_a_running_product() {
    let product = shared().await;
    let sample = product.dir().join("sample.txt");
    fs::write(&sample, samples::get("tramway-fare-free").article).unwrap();
    let mut summarize = product.command_line("summarize", "summarize", &[sample.display().to_string()]);
    assert!(
        summarize.ended(Duration::from_secs(100)).await.success(),
        "{}",
        summarize.output()
    );
    assert!(summarize.printed().trim().len() > 10, "{}", summarize.output());
    let mut status = product.command_line("status", "status", &[]);
    assert!(
        status.ended(Duration::from_secs(30)).await.success(),
        "{}",
        status.output()
    );
    for part in [
        "api",
        "monitor",
        "clickhouse",
        "nats",
        "JOBS",
        "workers",
        "as default",
    ] {
        assert!(
            status.output().contains(part),
            "{part} is missing:\n{}",
            status.output()
        );
    }
}

#[tokio::test]
async fn summarize_starts_and_stops_its_own_product() {
    let product = Product::new(PROGRAM, Options::default());
    let sample = product.dir().join("sample.txt");
    fs::write(&sample, samples::get("tramway-fare-free").article).unwrap();
    let mut summarize = product.command_line("summarize", "summarize", &[sample.display().to_string()]);
    // The first start on a machine downloads the servers.
    let status = summarize.ended(Duration::from_secs(900)).await;
    assert!(status.success(), "{}", summarize.output());
    // Standard output contains only the summary.
    let printed = summarize.printed();
    assert!(
        printed.trim().len() > 10 && printed.lines().count() == 1,
        "{printed}"
    );
    let left = processes::mentioning(&product.data());
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn invalid_settings_are_named() {
    let product = shared().await;
    let bad = ["--set".to_owned(), "worker.max_bach=3".to_owned()];
    let mut check = product.command_line("check-config", "check", &bad);
    assert_eq!(check.ended(Duration::from_secs(30)).await.code(), Some(78));
    assert!(check.output().contains("max_bach"), "{}", check.output());
}
