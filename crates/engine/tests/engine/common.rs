//! Test models and shared helpers.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use precis_engine::{
    Encoded, Engine, EngineOptions, GenerateRequest, Generated, GenerationParams, ModelSource, RowError,
};

/// Returns a folder with a model and `reference.jsonl`: the embedded model's, or the one that the environment names.
pub(crate) fn mini_folder() -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/precis-mini");
    std::env::var_os("PRECIS_GOLDEN_MODEL").map_or_else(own, PathBuf::from)
}

/// Returns the embedded model, loaded once for all tests.
pub(crate) fn mini() -> Arc<Engine> {
    static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Arc::new(load(mini_folder())));
    ENGINE.clone()
}

/// Returns the folder of a small random model.
pub(crate) fn tiny_folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Loads a small random model.
pub(crate) fn tiny(name: &str) -> Engine {
    load(tiny_folder(name))
}

pub(crate) fn load(folder: PathBuf) -> Engine {
    let options = EngineOptions {
        device: "cpu".parse().unwrap(),
        threads: 2,
        ..Default::default()
    };
    Engine::load(&ModelSource::Path(folder), &options).unwrap()
}

/// Wraps ids as if the tokenizer had produced them.
pub(crate) fn encoded(ids: &[u32]) -> Encoded {
    Encoded {
        ids: ids.to_vec(),
        tokens: ids.len(),
        truncated_tokens: 0,
    }
}

/// Generates for a single input.
pub(crate) fn alone(engine: &Engine, ids: &[u32], params: &GenerationParams) -> Result<Generated, RowError> {
    let request = GenerateRequest::new(encoded(ids), params.clone());
    engine.generate_batch(&[request], &mut ()).remove(0)
}
