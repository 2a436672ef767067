//! Where the models of the tests are, and what many tests do.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use precis_engine::{
    Encoded, Engine, EngineOptions, GenerateRequest, Generated, GenerationParams, ModelSource, RowError,
};

/// A folder with a model and `reference.jsonl`: the embedded model's, or another in the same form named by the
/// environment.
pub(crate) fn mini_folder() -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/precis-mini");
    std::env::var_os("PRECIS_GOLDEN_MODEL").map_or_else(own, PathBuf::from)
}

/// The embedded model, loaded once for all tests.
pub(crate) fn mini() -> Arc<Engine> {
    static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Arc::new(load(mini_folder())));
    ENGINE.clone()
}

/// The folder of a small random model.
pub(crate) fn tiny_folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// A small random model.
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

/// Ids as if the tokenizer had given them.
pub(crate) fn encoded(ids: &[u32]) -> Encoded {
    Encoded {
        ids: ids.to_vec(),
        tokens: ids.len(),
        truncated_tokens: 0,
    }
}

/// Generates for one input alone.
pub(crate) fn alone(engine: &Engine, ids: &[u32], params: &GenerationParams) -> Result<Generated, RowError> {
    let request = GenerateRequest::new(encoded(ids), params.clone());
    engine.generate_batch(&[request], &mut ()).remove(0)
}
