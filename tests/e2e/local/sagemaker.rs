//! The SageMaker container's entry point, in its image's environment.

use std::os::unix::fs::symlink;
use std::path::Path;

use precis_tests::process::Process;
use precis_tests::product::free_port;
use precis_tests::{Options, Product};
use rustix::process::Signal;
use serde_json::json;

use super::{MINUTE, article, is_ready};
use crate::PROGRAM;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// Returns the environment variables that the image's own stage sets.
fn environment_of_the_image() -> Vec<(String, String)> {
    let dockerfile = std::fs::read_to_string(Path::new(DEPLOY).join("Dockerfile")).unwrap();
    let stages = dockerfile.split("\nFROM ");
    let mut stages = stages.filter(|stage| stage.lines().next().unwrap().ends_with(" AS sagemaker"));
    let stage = stages.next().expect("a stage for SageMaker");
    let all = stage.lines().filter_map(|line| line.strip_prefix("ENV "));
    let pairs = all.flat_map(str::split_whitespace);
    let pairs = pairs.map(|pair| pair.split_once('=').expect("a name and a value"));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Runs `serve` as the container does, with additional environment variables, on a free port.
async fn container(more: &[(&str, &str)]) -> (Product, Process) {
    let mut product = Product::new(PROGRAM, Options::default());
    let bin = product.dir().join("bin");
    std::fs::create_dir(&bin).unwrap();
    symlink(PROGRAM, bin.join("precis")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let port = free_port().to_string();
    product.api = format!("http://127.0.0.1:{port}");
    let image = environment_of_the_image();
    let image = image.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let own = [("PATH", path.as_str()), ("SAGEMAKER_BIND_TO_PORT", &port)];
    let environment: Vec<(&str, &str)> = image.chain(own).chain(more.iter().copied()).collect();
    let serve = Path::new(DEPLOY).join("sagemaker/serve");
    let process = Process::start_with(&serve, &[], &environment, product.dir(), "serve");
    is_ready(&product).await;
    (product, process)
}

#[tokio::test]
async fn serve_answers_pings_and_invocations_and_stops_with_the_container() {
    let (product, mut process) = container(&[]).await;
    assert_eq!(product.get("/ping").await.0, 200);
    for body in [
        json!({"articles": [article()]}),
        json!({"inputs": [article()]}),
        json!({"articles": [article()], "num_beans": 2, "temperature": 1.0}),
    ] {
        let (status, answer) = product.post("/invocations", &body).await;
        assert_eq!(status, 200, "{answer}");
        assert!(!answer.to_string().is_empty());
    }
    let (status, refused) = product.post("/invocations", &json!({"articles": [7]})).await;
    assert_eq!(status, 400, "{refused}");
    process.signal(Signal::TERM);
    assert!(process.ended(MINUTE).await.success(), "{}", process.output());
}

#[tokio::test]
async fn serve_loads_the_model_that_sagemaker_unpacks() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("unpacked");
    std::fs::create_dir(&folder).unwrap();
    let embedded = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/precis-mini"));
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(embedded.join(file), folder.join(file)).unwrap();
    }
    let (product, _process) = container(&[("SM_MODEL_DIR", folder.to_str().unwrap())]).await;
    let (_, models) = product.get("/v1/models").await;
    assert_eq!(models["models"][0]["name"], "unpacked", "{models}");
    let (status, answer) = product
        .post("/invocations", &json!({"articles": [article()]}))
        .await;
    assert_eq!(status, 200, "{answer}");
}
