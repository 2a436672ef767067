//! Servers and the whole product, interrupted and killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use precis_schemas::rest::{JobView, Status};
use precis_tests::processes::{self, Other};
use precis_tests::{Options, Product, eventually, id_of, samples};
use rustix::process::Signal;
use serde_json::json;

use crate::PROGRAM;

/// Waits until no process of the product is left, or lists those that remain.
async fn nothing_is_left(data: &Path, patience: Duration) {
    let mut left = Vec::new();
    let gone = async {
        loop {
            left = processes::mentioning(data);
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(patience, gone).await;
    if in_time.is_err() {
        // Remaining processes would disturb later tests.
        left.iter().for_each(Other::kill);
        panic!("still there after {patience:?}: {left:#?}");
    }
}

#[tokio::test]
async fn ctrl_c_during_startup_leaves_no_process() {
    let product = Product::new(PROGRAM, Options::default());
    let mut up = product.command("up", "up", &[]);
    let log = product.data().join("logs/nats.log");
    // The first start on a machine downloads the servers.
    eventually(Duration::from_secs(900), "NATS is started", async || {
        assert!(!up.output().contains("error:"), "{}", up.output());
        log.exists().then_some(())
    })
    .await;
    up.signal(Signal::INT);
    let status = up.ended(Duration::from_secs(60)).await;
    assert!(status.code().is_some(), "{status}: {}", up.output());
    assert!(!up.output().contains("Precis is up."), "{}", up.output());
    nothing_is_left(&product.data(), Duration::from_secs(15)).await;
}

#[tokio::test]
async fn nothing_outlives_a_product_that_is_killed() {
    let mut product = Product::start(PROGRAM, Options::default()).await;
    product.kill();
    nothing_is_left(&product.data(), Duration::from_secs(30)).await;
}

/// Returns the server processes: NATS, ClickHouse.
fn servers(data: &Path) -> Option<[Other; 2]> {
    let store: PathBuf = data.join("clickhouse");
    let holds_the_store = |argument: &String| {
        let path = argument.strip_prefix("--path=").unwrap_or(argument);
        Path::new(path) == store
    };
    // A guard process has the server's command line in its own.
    let mut all = processes::mentioning(data);
    all.retain(|process| process.arguments.get(1).is_none_or(|role| role != "guard"));
    let nats = all.iter().find(|process| process.program() == "nats-server");
    let clickhouse = all
        .iter()
        .find(|process| process.arguments.iter().any(holds_the_store));
    Some([nats?.clone(), clickhouse?.clone()])
}

#[tokio::test]
async fn killed_servers_are_restarted() {
    let patience = Duration::from_secs(60);
    let product = Product::start(PROGRAM, Options::default()).await;
    let request = json!({"text": samples::get("tramway-fare-free").article});
    let before = product.summarize(&request).await;
    assert_eq!(product.stored_rows(&id_of(&before.id)).await.len(), 1);
    let data = product.data();
    let killed = servers(&data).expect("both servers run");
    killed.iter().for_each(Other::kill);

    let accepted = eventually(patience, "the API accepts jobs again", async || {
        let (status, answer) = product.post("/v1/summaries", &request).await;
        assert!(matches!(status, 202 | 503), "{status}: {answer}");
        (status == 202).then(|| serde_json::from_value::<JobView>(answer).unwrap())
    })
    .await;
    let view = eventually(patience, "the job has ended", async || {
        let (status, answer) = product.get(&format!("/v1/jobs/{}", accepted.id)).await;
        assert!(matches!(status, 200 | 503), "{status}: {answer}");
        let view = (status == 200).then(|| serde_json::from_value::<JobView>(answer).unwrap())?;
        view.status.is_final().then_some(view)
    })
    .await;
    assert_eq!((view.status, &view.summary), (Status::Succeeded, &before.summary));
    let rows = product.rows_of(&id_of(&view.id)).await;
    assert_eq!(rows[0]["outcome"], "succeeded");
    let back = servers(&data).expect("both servers run again");
    for (old, new) in killed.iter().zip(&back) {
        assert_ne!(old.id, new.id, "it was not killed: {old:?}");
    }
    for id in [&before.id, &view.id] {
        assert_eq!(product.stored_rows(&id_of(id)).await.len(), 1);
    }
}

#[tokio::test]
async fn a_killed_guard_takes_its_server_along_and_the_product_stays_up() {
    let product = Product::start(PROGRAM, Options::default()).await;
    let request = json!({"text": samples::get("tramway-fare-free").article});
    let before = product.summarize(&request).await;
    let data = product.data();
    let [server, _] = servers(&data).expect("both servers run");
    let guard = processes::mentioning(&data)
        .into_iter()
        .find(|process| process.arguments.get(1).is_some_and(|role| role == "guard"))
        .expect("a guard runs nats-server");
    guard.kill();
    // Two servers must never write to one store, so the old one is gone before the new one starts.
    let back = eventually(Duration::from_secs(60), "another server runs", async || {
        let [back, _] = servers(&data)?;
        (back.id != server.id).then_some(back)
    })
    .await;
    assert!(
        !processes::mentioning(&data)
            .iter()
            .any(|process| process.id == server.id),
        "{back:?}"
    );
    let view = eventually(Duration::from_secs(60), "the product works again", async || {
        let (status, answer) = product.post("/v1/summaries", &request).await;
        assert!(matches!(status, 202 | 503), "{status}: {answer}");
        (status == 202).then(|| serde_json::from_value::<JobView>(answer).unwrap())
    })
    .await;
    assert_eq!(product.finished(&view.id).await.summary, before.summary);
    assert!(
        !product.process().output().contains("Stopping"),
        "{}",
        product.process().output()
    );
}

#[tokio::test]
async fn a_start_after_a_kill_waits_for_the_processes_that_are_ending() {
    let mut product = Product::start(PROGRAM, Options::default()).await;
    product.kill();
    product.up().await;
    product.down().await;
}
