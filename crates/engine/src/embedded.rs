//! The model inside the binary.

use crate::error::Result;
use crate::source::ModelFiles;

/// The files of the embedded model.
#[cfg(feature = "embedded-model")]
pub(crate) fn files() -> Result<ModelFiles> {
    use crate::source::{TokenizerFile, WeightFiles, hash_bytes};

    const CONFIG: &[u8] = include_bytes!("../../../models/precis-mini/config.json");
    const GENERATION: &[u8] = include_bytes!("../../../models/precis-mini/generation_config.json");
    const TOKENIZER: &[u8] = include_bytes!("../../../models/precis-mini/tokenizer.json");
    const WEIGHTS: &[u8] = include_bytes!("../../../models/precis-mini/model.safetensors");

    Ok(ModelFiles {
        name: "precis-mini".to_owned(),
        revision: hash_bytes(WEIGHTS),
        config: CONFIG.into(),
        generation: Some(GENERATION.into()),
        tokenizer: TokenizerFile::Json(TOKENIZER.into()),
        weights: WeightFiles::Embedded(WEIGHTS),
    })
}

/// This binary has none.
#[cfg(not(feature = "embedded-model"))]
pub(crate) fn files() -> Result<ModelFiles> {
    Err(crate::error::LoadError::NotEmbedded)
}
