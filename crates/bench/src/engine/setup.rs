//! Engine options and requests that the engine benchmarks share.

use std::path::Path;

use precis_engine::{
    Drafting, Encoded, Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice,
};

/// Length in tokens of every summary in the comparison.
pub(super) const NEW_TOKENS: usize = 64;

/// Returns options for the CPU without caches, so that equal texts are computed again in every round.
pub(super) fn uncached_options(
    precision: PrecisionChoice,
    threads: usize,
    drafting: Drafting,
) -> anyhow::Result<EngineOptions> {
    Ok(EngineOptions {
        device: "cpu".parse()?,
        precision,
        threads,
        drafting,
        text_bytes: 0,
        share_equal_requests: false,
        ..EngineOptions::default()
    })
}

/// Loads the model in `folder` with prompt lookup and without caches.
pub(super) fn load(folder: &Path, precision: PrecisionChoice, threads: usize) -> anyhow::Result<Engine> {
    let options = uncached_options(precision, threads, Drafting::Adaptive)?;
    Ok(Engine::load(&ModelSource::Path(folder.to_owned()), &options)?)
}

/// Wraps token ids as an encoded text.
pub(super) fn encoded(ids: &[u32]) -> Encoded {
    Encoded {
        ids: ids.to_vec(),
        tokens: ids.len(),
        truncated_tokens: 0,
    }
}

/// Returns requests for exactly [`NEW_TOKENS`] tokens each.
pub(super) fn fixed_length_requests(ids: &[Vec<u32>], beams: usize) -> Vec<GenerateRequest> {
    let params = GenerationParams {
        num_beams: beams,
        min_new_tokens: NEW_TOKENS,
        max_new_tokens: NEW_TOKENS,
        ..GenerationParams::default()
    };
    ids.iter()
        .map(|ids| GenerateRequest::new(encoded(ids), params.clone()))
        .collect()
}
