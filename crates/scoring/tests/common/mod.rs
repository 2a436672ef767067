//! Shared helpers of the golden tests.

use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads one value per line of a file in `tests/data`.
pub(crate) fn read_lines<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    let text = std::fs::read_to_string(&path).expect("the golden data is part of the crate");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line of golden data is one case"))
        .collect()
}

/// Returns whether two values are equal within 1e-9.
#[allow(dead_code, reason = "each test binary compiles this module on its own")]
pub(crate) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9
}
