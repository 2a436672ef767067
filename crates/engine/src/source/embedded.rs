//! The model that is compiled into the binary.

use super::files::ModelFiles;
use crate::error::Result;

/// Name of the embedded model.
pub(super) const NAME: &str = "precis-mini";

/// Returns the files of the embedded model.
#[cfg(feature = "embedded-model")]
pub(crate) fn files() -> Result<ModelFiles> {
    use super::files::{ChatFiles, TokenizerFile, WeightFiles, hash_bytes};

    const CONFIG: &[u8] = include_bytes!("../../../../models/precis-mini/config.json");
    const GENERATION: &[u8] = include_bytes!("../../../../models/precis-mini/generation_config.json");
    const TOKENIZER: &[u8] = include_bytes!("../../../../models/precis-mini/tokenizer.json");
    const WEIGHTS: &[u8] = include_bytes!("../../../../models/precis-mini/model.safetensors");

    Ok(ModelFiles {
        name: NAME.to_owned(),
        revision: hash_bytes(WEIGHTS),
        config: CONFIG.into(),
        generation: Some(GENERATION.into()),
        tokenizer: TokenizerFile::Json(TOKENIZER.into()),
        chat: ChatFiles::default(),
        weights: WeightFiles::Embedded(WEIGHTS),
    })
}

/// Fails: this binary has no embedded model.
#[cfg(not(feature = "embedded-model"))]
pub(crate) fn files() -> Result<ModelFiles> {
    Err(crate::error::LoadError::NotEmbedded)
}
