//! Loads the model that the configuration names.

use std::sync::Arc;

use precis_engine::{DeviceChoice, Engine, EngineOptions, LoadError, ModelSource, PrecisionChoice, Prompt};
use precis_runtime::config::{ModelChoice, WorkerConfig};

/// Why a model can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// `worker.device` is not a device.
    #[error("worker.device: {0}")]
    Device(String),
    /// `worker.precision` is not a precision.
    #[error("worker.precision: {0}")]
    Precision(String),
    /// The model can't be loaded.
    #[error("worker.model = {model}: {source}")]
    Load {
        /// The configured model.
        model: String,
        /// The error of the engine.
        source: LoadError,
    },
    /// The model was loaded but can't generate.
    #[error("worker.model = {model}: the model was loaded but generates no text: {reason}")]
    Unusable {
        /// The configured model.
        model: String,
        /// The error of the engine.
        reason: String,
    },
}

/// Returns where the configured model is.
fn source_of(choice: &ModelChoice) -> ModelSource {
    match choice {
        ModelChoice::Embedded => ModelSource::Embedded,
        ModelChoice::Folder(path) => ModelSource::Path(path.clone()),
        ModelChoice::Hub { id, revision } => ModelSource::Hub {
            id: id.clone(),
            revision: revision.clone().unwrap_or_else(|| "main".into()),
        },
        ModelChoice::NoOp => ModelSource::NoOp,
        ModelChoice::Faulty => ModelSource::Faulty,
    }
}

/// Returns the name that results and `GET /v1/models` give the configured model.
pub fn model_name(choice: &ModelChoice) -> String {
    source_of(choice).model_name()
}

/// Loads the configured model. Blocks while it reads the files and, for a hub id, downloads them.
///
/// `newest` asks the hub for the newest commit of a branch, even if an older one is cached.
///
/// # Errors
/// When the device is missing or the model can't be loaded.
pub(super) fn load(config: &WorkerConfig, newest: bool) -> Result<Arc<Engine>, ModelError> {
    let device: DeviceChoice = config
        .device
        .parse()
        .map_err(|error| ModelError::Device(format!("{error}")))?;
    let precision: PrecisionChoice = config
        .precision
        .parse()
        .map_err(|error| ModelError::Precision(format!("{error}")))?;
    let options = EngineOptions {
        device,
        precision,
        threads: config.threads,
        prompt: Prompt {
            system: config.system_prompt.clone(),
            user: config.prompt.clone(),
        },
        newest,
        ..EngineOptions::default()
    };
    let engine = Engine::load(&source_of(&config.model), &options).map_err(|source| ModelError::Load {
        model: config.model.clone().into(),
        source,
    })?;
    Ok(Arc::new(engine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_prompt_is_the_engines() {
        let (config, own) = (WorkerConfig::default(), Prompt::default());
        assert_eq!((config.system_prompt, config.prompt), (own.system, own.user));
    }
}
