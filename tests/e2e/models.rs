//! Replacing a worker's model under load, and texts longer than the model's input.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use precis_schemas::rest::{JobView, Status};
use precis_tests::product::local_dir;
use precis_tests::{Options, Product, eventually, id_of, samples};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{PROGRAM, shared};

const EMBEDDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/precis-mini");

async fn without_workers() -> Product {
    let options = Options {
        workers: 0,
        ..Options::default()
    };
    Product::start(PROGRAM, options).await
}

/// Copies the embedded model into a folder whose weights can be replaced.
fn model_folder(product: &Product) -> PathBuf {
    let folder = product.dir().join("model");
    fs::create_dir(&folder).unwrap();
    for file in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "model.safetensors",
    ] {
        fs::copy(Path::new(EMBEDDED).join(file), folder.join(file)).unwrap();
    }
    folder
}

/// Atomically replaces the model's weights.
fn replace_weights(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let weights = folder.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    change(&mut bytes);
    let new = folder.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, weights).unwrap();
}

/// Flips the last bit of the last weight.
fn nearly_the_same(bytes: &mut [u8]) {
    let place = bytes.len() - 2;
    bytes[place] ^= 1;
}

async fn revision(product: &Product) -> Option<String> {
    let (status, models) = product.get("/v1/models").await;
    assert_eq!(status, 200);
    let revision = models["models"][0]["revision"].as_str()?;
    Some(revision.to_owned())
}

async fn known_revision(product: &Product, is_wanted: impl Fn(&str) -> bool) -> String {
    eventually(
        Duration::from_secs(60),
        "a worker reports its model",
        async || revision(product).await.filter(|revision| is_wanted(revision)),
    )
    .await
}

fn revision_of(view: &JobView) -> &str {
    assert_eq!(
        (view.status, view.attempt),
        (Status::Succeeded, Some(1)),
        "{view:?}"
    );
    &view.model.as_ref().unwrap().revision
}

fn short(text: &str) -> Value {
    json!({"text": text, "params": {"num_beams": 1, "max_new_tokens": 12}})
}

#[tokio::test]
async fn replacing_a_model_loses_no_job_and_results_name_their_revision() {
    let product = without_workers().await;
    let folder = model_folder(&product);
    let model = format!("worker.model={}", folder.display());
    let worker = product.worker("only", &[&model]);
    let old = known_revision(&product, |_| true).await;
    let text = samples::get("storm-ingrid-coast").article;
    let long =
        json!({"text": text, "params": {"num_beams": 64, "min_new_tokens": 300, "max_new_tokens": 300}});
    let begun = product.begun(&long).await;

    replace_weights(&folder, |bytes| nearly_the_same(bytes));
    worker.signal(Signal::HUP);
    let mut submitted = Vec::new();
    let new = eventually(
        Duration::from_secs(100),
        "a job is done by the new model",
        async || {
            let view = product
                .summarize(&short(&format!("{} {text}", submitted.len())))
                .await;
            let revision = revision_of(&view).to_owned();
            submitted.push(view);
            (revision != old).then_some(revision)
        },
    )
    .await;
    // New jobs go to the new model, while the old one finishes its own.
    let more = (0..8).map(|number| submit(&product, format!("{number}. {text}")));
    let more = join_all(more).await;
    for id in &more {
        assert_eq!(revision_of(&product.finished(id).await), new);
    }
    assert!(
        submitted
            .iter()
            .all(|view| [&old, &new].contains(&&revision_of(view).to_owned()))
    );
    assert_eq!(revision_of(&product.finished(&begun.id).await), old);
    assert_eq!(known_revision(&product, |revision| revision == new).await, new);
    let rows = product.stored_rows(&id_of(&begun.id)).await;
    assert_eq!(
        (rows.len(), rows[0]["revision"].as_str()),
        (1, Some(old.as_str()))
    );

    // A model that fails to load changes nothing.
    replace_weights(&folder, |bytes| bytes.truncate(1000));
    worker.signal(Signal::HUP);
    eventually(
        Duration::from_secs(60),
        "the worker logs the failure",
        async || worker.output().contains("serving the old one").then_some(()),
    )
    .await;
    assert_eq!(revision_of(&product.summarize(&short(&text)).await), new);
}

async fn submit(product: &Product, text: String) -> String {
    product.submit(&short(&text)).await.id
}

#[tokio::test]
async fn a_watched_folder_is_reloaded_when_its_files_change() {
    let product = without_workers().await;
    let folder = model_folder(&product);
    let model = format!("worker.model={}", folder.display());
    let _worker = product.worker("only", &[&model, "worker.watch_model_seconds=1"]);
    let old = known_revision(&product, |_| true).await;
    replace_weights(&folder, |bytes| nearly_the_same(bytes));
    let new = known_revision(&product, |revision| revision != old).await;
    let view = product
        .summarize(&short(&samples::get("storm-ingrid-coast").article))
        .await;
    assert_eq!(revision_of(&view), new);
}

/// Downloads SmolLM2-135M-Instruct, once, and returns its file.
async fn instruct_model() -> String {
    let program = Path::new(PROGRAM);
    let local = format!("standalone.local_dir={}", local_dir(program).display());
    let install = Command::new(program)
        .args(["install", "smollm2-135m-instruct", "--set", &local])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&install.stderr);
    assert!(install.status.success(), "{errors}");
    String::from_utf8(install.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn an_instruct_model_in_a_gguf_file_summarizes_an_article() {
    let product = without_workers().await;
    let file = instruct_model().await;
    let _worker = product.worker(
        "only",
        &[&format!("worker.model={file}"), "worker.embeddings=both"],
    );
    known_revision(&product, |_| true).await;
    let article = samples::get("storm-ingrid-coast").article;
    let request = json!({"text": article, "params": {"first_sentence": false, "max_new_tokens": 40}});
    let view = product.summarize(&request).await;
    assert_eq!(view.status, Status::Succeeded, "{view:?}");
    assert_eq!(view.model.as_ref().unwrap().name, "SmolLM2-135M-Instruct.Q4_1");
    let sizes = view.sizes.unwrap();
    // The whole article, in one piece.
    assert!(
        sizes.text_tokens > 200 && sizes.truncated_tokens == 0,
        "{sizes:?}"
    );
    let summary = view.summary.unwrap();
    assert!(summary.split_whitespace().count() > 8, "{summary}");
    assert!(
        summary.contains("storm") || summary.contains("Storm") || summary.contains("Ingrid"),
        "{summary}"
    );
    let rows = product.stored_rows(&id_of(&view.id)).await;
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn long_texts_are_truncated_or_map_reduced_on_request() {
    let product = shared().await;
    let ids = [
        "storm-ingrid-coast",
        "harbour-bridge-vote",
        "geothermal-skarn-valley",
    ];
    let text = ids.map(|id| samples::get(id).article).join("\n\n");
    let request = |long_text: &str| json!({"text": text, "params": {"num_beams": 1, "long_text": long_text, "first_sentence": false}});
    let (cut, whole) = (request("truncate"), request("map_reduce"));
    let (cut, whole) = tokio::join!(product.summarize(&cut), product.summarize(&whole));
    for view in [&cut, &whole] {
        assert_eq!(view.status, Status::Succeeded, "{view:?}");
        let timings = view.timings.as_ref().unwrap();
        let stages = [
            timings.queue_ms,
            timings.batch_wait_ms,
            timings.tokenize_ms,
            timings.encode_ms,
            timings.decode_ms,
        ];
        let left = timings.total_ms - stages.iter().sum::<f64>();
        assert!(left.abs() < 0.001, "{timings:?}");
    }
    let (cut_sizes, whole_sizes) = (cut.sizes.unwrap(), whole.sizes.unwrap());
    assert!(
        cut_sizes.truncated_tokens > 0 && cut_sizes.parts == 0,
        "{cut_sizes:?}"
    );
    assert!(
        whole_sizes.truncated_tokens == 0 && whole_sizes.parts >= 2,
        "{whole_sizes:?}"
    );
    assert_eq!(cut_sizes.text_tokens, whole_sizes.text_tokens);
    // The embedded model copies an early sentence, so both summaries may be equal.
    assert!(cut.summary.is_some() && whole.summary.is_some());
    assert!(whole.timings.unwrap().decode_ms > 0.0);
}

#[tokio::test]
async fn a_deadline_covers_all_chunks_of_a_text() {
    let product = shared().await;
    let text = samples::get("geothermal-skarn-valley").article.repeat(20);
    let mut request = json!({"text": text, "params": {"long_text": "map_reduce"}, "ttl_seconds": 1});
    request["params"]["num_beams"] = json!(64);
    request["params"]["min_new_tokens"] = json!(200);
    request["params"]["max_new_tokens"] = json!(200);
    let view = product.summarize(&request).await;
    assert_eq!(view.status, Status::Expired, "{view:?}");
    // The worker has capacity again.
    let view = product
        .summarize(&short("The harbour bridge will close on Monday."))
        .await;
    assert_eq!(view.status, Status::Succeeded, "{view:?}");
}
