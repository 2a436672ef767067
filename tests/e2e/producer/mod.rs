//! `precis producer`.

mod batch;
mod operations;
mod publish;

use std::path::Path;
use std::time::Duration;

use precis_tests::{Options, Process, Product};
use tokio::sync::OnceCell;

use crate::PROGRAM;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// A product whose summaries are the first sentences of the texts.
async fn no_op() -> &'static Product {
    static SHARED: OnceCell<Product> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let options = Options {
                workers: 1,
                settings: vec!["worker.model=benchmark:no-op".into()],
                shared_in: Some(env!("CARGO_TARGET_TMPDIR").into()),
                ..Options::default()
            };
            Product::start(PROGRAM, options).await
        })
        .await
}

/// Starts `precis producer`. `name` is that of its output.
fn producer(product: &Product, name: &str, arguments: &[&str]) -> Process {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    product.command_line("producer", name, &arguments)
}

/// Runs `precis producer`. Returns the exit code, standard output and standard error.
async fn run(product: &Product, name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut process = producer(product, name, arguments);
    let status = process.ended(PATIENCE).await;
    let printed = process.printed();
    let output = process.output();
    let errors = output.strip_suffix(&printed).unwrap_or(&output).to_owned();
    (status.code(), printed, errors)
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}
