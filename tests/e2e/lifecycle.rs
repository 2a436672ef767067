//! Starting and stopping the whole product.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use precis_schemas::rest::Status;
use precis_tests::product::free_port;
use precis_tests::{Options, Process, Product, eventually, id_of, processes, samples};
use serde_json::{Value, json};

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

/// Copies a folder, with its links and permissions.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[tokio::test]
async fn a_copy_of_the_data_folder_restores_jobs_results_and_predictions() {
    let mut product = Product::start(PROGRAM, Options::default()).await;
    let (data, backup) = (product.data(), product.dir().join("backup"));
    let saved = product
        .summarize(&json!({"text": samples::get("tramway-fare-free").article}))
        .await;
    assert_eq!(product.stored_rows(&id_of(&saved.id)).await.len(), 1);
    product.down().await;
    copy(&data, &backup);
    product.up().await;
    let lost = product
        .summarize(&json!({"text": "A text after the backup."}))
        .await;
    assert_eq!(product.stored_rows(&id_of(&lost.id)).await.len(), 1);
    product.down().await;

    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    product.up().await;
    let (status, view) = product.get(&format!("/v1/jobs/{}", saved.id)).await;
    assert_eq!(
        (status, view["summary"].as_str()),
        (200, saved.summary.as_deref())
    );
    assert_eq!(product.rows_of(&id_of(&saved.id)).await.len(), 1);
    assert_eq!(product.get(&format!("/v1/jobs/{}", lost.id)).await.0, 404);
    let count = product
        .query("SELECT count() AS predictions FROM predictions")
        .await;
    assert_eq!(count[0]["predictions"], 1, "{count:?}");
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
async fn summarize_uses_the_model_and_priority_that_it_is_given_or_says_why_not() {
    let product = shared().await;
    let sample = product.dir().join("sample-model.txt");
    fs::write(&sample, samples::get("tramway-fare-free").article).unwrap();
    let sample = sample.display().to_string();
    let arguments = ["--model", "embedded", "--priority", "high", "--json"].map(str::to_owned);
    let arguments = [&arguments[..], std::slice::from_ref(&sample)].concat();
    let mut served = product.command_line("summarize", "summarize-served", &arguments);
    assert!(
        served.ended(Duration::from_secs(100)).await.success(),
        "{}",
        served.output()
    );
    let view: Value = serde_json::from_str(&served.printed()).unwrap();
    let rows = product.stored_rows(&id_of(view["id"].as_str().unwrap())).await;
    assert_eq!(rows[0]["lane"], "high");
    assert!(served.output().contains("precis-mini"), "{}", served.output());

    for option in [
        ["--model", "google/flan-t5-small"],
        ["--set", "worker.model=google/flan-t5-small"],
    ] {
        let arguments = [&option.map(str::to_owned)[..], std::slice::from_ref(&sample)].concat();
        let mut other = product.command_line("summarize", "summarize-other", &arguments);
        assert!(!other.ended(Duration::from_secs(30)).await.success());
        let output = other.output();
        for part in [
            "does not serve the model google/flan-t5-small",
            "precis-mini",
            "--serve-as",
        ] {
            assert!(output.contains(part), "{part}: {output}");
        }
        assert_eq!(other.printed(), "");
    }
}

#[tokio::test]
async fn a_second_model_under_one_name_starts_and_is_warned_of() {
    let product = Product::start(PROGRAM, Options::default()).await;
    // Whoever holds the preferred port, the worker must not fail for it.
    let _preferred = std::net::TcpListener::bind("127.0.0.1:9021");
    let arguments = [
        "worker",
        "--stop-with-parent",
        "--model",
        "benchmark:no-op",
        "--set",
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
    arguments.push(format!("nats.url={}", product.nats));
    let worker = Process::start(Path::new(PROGRAM), &arguments, product.dir(), "beside");
    eventually(Duration::from_secs(60), "both models are marked", async || {
        assert!(!worker.output().contains("error:"), "{}", worker.output());
        let (_, list) = product.get("/v1/models").await;
        let models = list["models"].as_array().unwrap();
        let marked = models.len() == 2 && models.iter().all(|model| model["mixed"] == true);
        marked.then_some(())
    })
    .await;
    eventually(Duration::from_secs(30), "the monitor warns", async || {
        let output = fs::read_to_string(product.data().join("logs/monitor.log")).unwrap_or_default();
        (output.contains("serve several models under one name") && output.contains("precis-mini"))
            .then_some(())
    })
    .await;
    let mut status = product.command_line("status", "status", &[]);
    assert!(status.ended(Duration::from_secs(30)).await.success());
    assert!(
        status
            .printed()
            .contains("requests for `default` get either of 2 models"),
        "{}",
        status.output()
    );
}

#[tokio::test]
async fn healthcheck_tells_ready_roles_from_others() {
    let product = shared().await;
    let limit = Duration::from_secs(30);
    for role in ["api", "worker", "monitor"] {
        let mut check = product.command_line("healthcheck", &format!("healthcheck-{role}"), &[role.into()]);
        assert!(check.ended(limit).await.success(), "{}", check.output());
    }
    let elsewhere = ["worker", "--set", "worker.admin_listen=127.0.0.1:1"].map(str::to_owned);
    let mut check = product.command_line("healthcheck", "healthcheck-elsewhere", &elsewhere);
    assert_eq!(check.ended(limit).await.code(), Some(1));
    assert!(
        check.output().contains("not ready: http://127.0.0.1:1/readyz"),
        "{}",
        check.output()
    );
}

#[tokio::test]
async fn healthcheck_asks_no_other_worker() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["healthcheck", "worker"].map(str::to_owned);
    let mut check = Process::start(Path::new(PROGRAM), &arguments, folder.path(), "unset");
    assert_eq!(check.ended(Duration::from_secs(30)).await.code(), Some(1));
    assert!(
        check.output().contains("set worker.admin_listen"),
        "{}",
        check.output()
    );
}

#[tokio::test]
async fn a_worker_that_leaves_without_an_answer_has_left() {
    let product = shared().await;
    let client = async_nats::connect(&product.nats).await.unwrap();
    // It takes the first request, and leaves before it can answer.
    let mut requests = client.subscribe("drains.v1.silent").await.unwrap();
    client.flush().await.unwrap();
    let leaving = tokio::spawn(async move {
        requests.next().await.unwrap();
        requests.unsubscribe().await.unwrap();
    });
    let url = format!("nats.url={}", product.nats);
    let arguments = ["worker", "drain", "silent", "--set", &url].map(str::to_owned);
    let folder = tempfile::tempdir().unwrap();
    let mut drain = Process::start(Path::new(PROGRAM), &arguments, folder.path(), "drain-silent");
    let status = drain.ended(Duration::from_secs(60)).await;
    assert!(status.success(), "{}", drain.output());
    assert!(drain.printed().contains("silent has left"), "{}", drain.output());
    leaving.await.unwrap();
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

#[tokio::test]
async fn a_drained_worker_finishes_its_jobs_and_is_not_started_again() {
    let options = Options {
        workers: 2,
        ..Options::default()
    };
    let product = Product::start(PROGRAM, options).await;
    let workers = async || {
        let (_, list) = product.get("/v1/models").await;
        list["models"][0]["workers"].as_u64()
    };
    eventually(Duration::from_secs(60), "both workers are known", async || {
        (workers().await == Some(2)).then_some(())
    })
    .await;
    let drain = async |id: &str, name: &str| {
        let arguments = [
            "drain".to_owned(),
            id.to_owned(),
            "--set".to_owned(),
            format!("nats.url={}", product.nats),
        ];
        let arguments = [&["worker".to_owned()][..], &arguments].concat();
        let mut drain = Process::start(Path::new(PROGRAM), &arguments, product.dir(), name);
        (
            drain.ended(Duration::from_secs(150)).await.success(),
            drain.output(),
        )
    };
    let (success, output) = drain("nobody", "drain-nobody").await;
    let ids = output
        .trim()
        .rsplit_once("live workers: ")
        .expect("it lists the workers")
        .1
        .to_owned();
    let ids: Vec<&str> = ids.split(", ").collect();
    assert!(!success && ids.len() == 2, "{output}");

    let text = samples::get("storm-ingrid-coast").article;
    let mut jobs = Vec::new();
    for number in 0..8 {
        jobs.push(
            product
                .submit(&json!({"text": format!("{number}. {text}")}))
                .await
                .id,
        );
    }
    let (success, output) = drain(ids[0], "drain-first").await;
    assert!(success && output.contains("has left"), "{output}");
    for id in &jobs {
        let view = product.finished(id).await;
        assert_eq!((view.status, view.attempt), (Status::Succeeded, Some(1)));
    }
    eventually(Duration::from_secs(30), "one worker is left", async || {
        (workers().await == Some(1)).then_some(())
    })
    .await;
    eventually(Duration::from_secs(30), "the supervisor says so", async || {
        product
            .process()
            .output()
            .contains("was retired; not restarting it")
            .then_some(())
    })
    .await;
    let view = product.summarize(&json!({"text": text})).await;
    assert_eq!(view.status, Status::Succeeded);
}

#[tokio::test]
async fn workers_of_other_machines_reach_nats_with_credentials_only() {
    let port = free_port();
    let settings = [
        format!("nats.url=nats://127.0.0.1:{port}"),
        format!("standalone.nats_listen=0.0.0.0:{port}"),
        "nats.user=precis".to_owned(),
        "nats.password=long-and-random".to_owned(),
    ];
    let options = Options {
        workers: 0,
        settings: settings.to_vec(),
        ..Options::default()
    };
    let product = Product::start(PROGRAM, options).await;
    // Another address of the machine, like that of another machine's route.
    let url = format!("nats.url=nats://127.0.0.2:{port}");
    let mut stranger = product.worker("stranger", &[&url, "nats.password=wrong"]);
    assert!(!stranger.ended(Duration::from_secs(60)).await.success());
    assert!(
        stranger.output().contains("authorization"),
        "{}",
        stranger.output()
    );
    let _worker = product.worker("far", &[&url]);
    eventually(
        Duration::from_secs(60),
        "the gateway knows the worker",
        async || {
            let (_, list) = product.get("/v1/models").await;
            (list["models"][0]["workers"] == 1).then_some(())
        },
    )
    .await;
    let view = product
        .summarize(&json!({"text": samples::get("tramway-fare-free").article}))
        .await;
    assert_eq!(
        (view.status, view.worker.unwrap().id.to_string()),
        (Status::Succeeded, "far".to_owned())
    );
}

#[tokio::test]
async fn an_address_to_listen_on_is_refused_as_nats_url_at_once() {
    let product = Product::new(PROGRAM, Options::default());
    let mut up = product.command("up", "listen", &["nats.url=nats://0.0.0.0:4222".to_owned()]);
    assert_eq!(up.ended(Duration::from_secs(20)).await.code(), Some(78));
    assert!(up.output().contains("standalone.nats_listen"), "{}", up.output());
    let open = "standalone.nats_listen=0.0.0.0:4222".to_owned();
    let mut open = product.command("up", "open", &[open]);
    assert_eq!(open.ended(Duration::from_secs(20)).await.code(), Some(78));
    assert!(open.output().contains("nats.password"), "{}", open.output());
}
