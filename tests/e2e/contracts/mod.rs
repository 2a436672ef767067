//! The services that Precis takes the place of: what their clients send is sent again, and the answers are compared.

mod mlflow;
mod sagemaker;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder with the captures.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts")
}

fn captured(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A body as it was on the wire: text as it is, everything else as JSON.
fn bytes_of(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        other => serde_json::to_vec(other).unwrap(),
    }
}
