//! The model of this worker: which one the configuration asks for, and how its parameters are named.

use std::sync::Arc;

use precis_engine::{
    DeviceChoice, EarlyStopping, Engine, EngineOptions, GenerationParams as EngineParams, LoadError,
    ModelSource, PrecisionChoice,
};
use precis_runtime::config::{ModelChoice, WorkerConfig};
use precis_schemas::GenerationParams;
use precis_schemas::params::{EarlyStopping as WantedStopping, Never};

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// `worker.device` names no device.
    #[error("worker.device: {0}")]
    Device(String),
    /// `worker.precision` names no precision.
    #[error("worker.precision: {0}")]
    Precision(String),
    /// The model can't be loaded.
    #[error("worker.model = {model}: {source}")]
    Load {
        /// What was asked for.
        model: String,
        /// Why it failed.
        source: LoadError,
    },
    /// The model is loaded and can't write.
    #[error("worker.model = {model}: it can't write a summary: {reason}")]
    Unusable {
        /// What was asked for.
        model: String,
        /// Why it failed.
        reason: String,
    },
}

/// Where the configured model is.
pub fn source_of(choice: &ModelChoice) -> ModelSource {
    match choice {
        ModelChoice::Embedded => ModelSource::Embedded,
        ModelChoice::Folder(path) => ModelSource::Path(path.clone()),
        ModelChoice::Hub { id, revision } => ModelSource::Hub {
            id: id.clone(),
            revision: revision.clone().unwrap_or_else(|| "main".into()),
        },
        ModelChoice::NoOp => ModelSource::NoOp,
    }
}

/// Loads the configured model. Blocks while it reads and, for a hub id, downloads; `newest` asks the hub for the newest
/// commit of a branch, even if the cache has one.
///
/// # Errors
/// When the device is not there or the model can't be loaded.
pub fn load(settings: &WorkerConfig, newest: bool) -> Result<Arc<Engine>, ModelError> {
    let device: DeviceChoice = settings
        .device
        .parse()
        .map_err(|error| ModelError::Device(format!("{error}")))?;
    let precision: PrecisionChoice = settings
        .precision
        .parse()
        .map_err(|error| ModelError::Precision(format!("{error}")))?;
    let options = EngineOptions {
        device,
        precision,
        threads: settings.threads,
        newest,
        ..EngineOptions::default()
    };
    let engine = Engine::load(&source_of(&settings.model), &options).map_err(|source| ModelError::Load {
        model: settings.model.clone().into(),
        source,
    })?;
    Ok(Arc::new(engine))
}

/// The engine's parameters for a client's: what the client leaves open is the model's own default.
pub fn engine_params(wanted: &GenerationParams, defaults: &EngineParams) -> EngineParams {
    let size = |value: Option<u32>, default: usize| {
        value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
    };
    let max_new_tokens = size(wanted.max_new_tokens, defaults.max_new_tokens);
    EngineParams {
        num_beams: size(wanted.num_beams, defaults.num_beams),
        do_sample: wanted.do_sample.unwrap_or(defaults.do_sample),
        temperature: wanted.temperature.unwrap_or(defaults.temperature),
        top_k: size(wanted.top_k, defaults.top_k),
        top_p: wanted.top_p.unwrap_or(defaults.top_p),
        length_penalty: wanted.length_penalty.unwrap_or(defaults.length_penalty),
        early_stopping: match wanted.early_stopping {
            Some(WantedStopping::Flag(early)) => early.into(),
            Some(WantedStopping::Never(Never::Never)) => EarlyStopping::Never,
            None => defaults.early_stopping,
        },
        no_repeat_ngram_size: size(wanted.no_repeat_ngram_size, defaults.no_repeat_ngram_size),
        repetition_penalty: wanted.repetition_penalty.unwrap_or(defaults.repetition_penalty),
        // A short summary that was asked for is not refused because of the model's own minimum.
        min_new_tokens: match wanted.min_new_tokens {
            Some(_) => size(wanted.min_new_tokens, 0),
            None => defaults.min_new_tokens.min(max_new_tokens),
        },
        max_new_tokens,
        num_return_sequences: 1,
        seed: wanted.seed.or(defaults.seed),
    }
}

/// A client's parameters as they were used: every default filled in.
pub fn params_as_used(wanted: &GenerationParams, used: &EngineParams, seed: Option<u64>) -> GenerationParams {
    let count = |value: usize| Some(u32::try_from(value).unwrap_or(u32::MAX));
    GenerationParams {
        num_beams: count(used.num_beams),
        do_sample: Some(used.do_sample),
        temperature: Some(used.temperature),
        top_k: count(used.top_k),
        top_p: Some(used.top_p),
        length_penalty: Some(used.length_penalty),
        early_stopping: Some(match used.early_stopping {
            EarlyStopping::Heuristic => WantedStopping::Flag(false),
            EarlyStopping::FirstBeams => WantedStopping::Flag(true),
            EarlyStopping::Never => WantedStopping::Never(Never::Never),
        }),
        no_repeat_ngram_size: count(used.no_repeat_ngram_size),
        repetition_penalty: Some(used.repetition_penalty),
        min_new_tokens: count(used.min_new_tokens),
        max_new_tokens: count(used.max_new_tokens),
        seed: seed.or(used.seed),
        first_sentence: Some(wanted.first_sentence.unwrap_or(true)),
        long_text: Some(wanted.long_text.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_is_the_models_default() {
        let defaults = EngineParams {
            num_beams: 4,
            min_new_tokens: 9,
            ..EngineParams::default()
        };
        let wanted = GenerationParams {
            max_new_tokens: Some(5),
            do_sample: Some(true),
            ..Default::default()
        };
        let used = engine_params(&wanted, &defaults);
        assert_eq!(
            (used.num_beams, used.min_new_tokens, used.max_new_tokens),
            (4, 5, 5)
        );
        let shown = params_as_used(&wanted, &used, Some(7));
        assert_eq!(
            (shown.num_beams, shown.seed, shown.first_sentence),
            (Some(4), Some(7), Some(true))
        );
        assert!(shown.validate().is_ok());
        for text in ["true", "false", "\"never\""] {
            let asked = format!(r#"{{"early_stopping":{text}}}"#);
            let wanted: GenerationParams = serde_json::from_str(&asked).unwrap();
            let shown = params_as_used(&wanted, &engine_params(&wanted, &defaults), None);
            assert_eq!(shown.early_stopping, wanted.early_stopping);
        }
    }
}
