//! Resident memory of an engine.

use std::path::Path;

use anyhow::Context;
use precis_engine::{GenerateRequest, PrecisionChoice};
use serde_json::{Value, json};

use super::setup::load;
use crate::processes::resident_megabytes;

/// Measures resident megabytes of the int8 model, and of the model with 32 requests in flight.
///
/// Both are relative to this process before loading. Call it in a fresh process: an allocator keeps memory of earlier
/// engines.
#[allow(clippy::disallowed_methods)] // polls outside any executor
pub(super) fn measure(folder: &Path, requests: &[GenerateRequest]) -> anyhow::Result<Value> {
    let before =
        resident_megabytes(std::process::id()).context("this system doesn't report resident memory")?;
    let engine = load(folder, PrecisionChoice::Int8, 2)?;
    let loaded = resident_megabytes(std::process::id()).unwrap_or(f64::NAN);
    let requests: Vec<GenerateRequest> = requests.iter().cycle().take(32).cloned().collect();
    let mut peak = 0f64;
    std::thread::scope(|scope| {
        let work = scope.spawn(|| engine.generate_batch(&requests, &mut ()).len());
        while !work.is_finished() {
            peak = peak.max(resident_megabytes(std::process::id()).unwrap_or(0.0));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    Ok(json!({"model": loaded - before, "with_32_requests": peak - before}))
}
