//! The model that a worker serves.
//!
//! `load` reads it, `reload` replaces it by a newer revision while jobs run, and `params` translates its parameters.
//! A job keeps the model that it started with, and its result names that model's revision.

mod load;
mod params;
#[cfg(test)]
mod params_reference;
mod reload;

use std::sync::Arc;
use std::time::Duration;

use precis_engine::{Engine, GenerateRequest, GenerationParams as EngineParams, StopRule};
use precis_runtime::clock::Instant;
use precis_runtime::config::WorkerConfig;
use precis_schemas::result::{ModelRef, WorkerRef};
use precis_schemas::{GenerationParams, Token};
use tokio::sync::watch;

pub use self::load::{ModelError, model_name};
pub use self::params::{engine_params, params_as_used};
pub use self::reload::{ReloadTriggers, reload_on_trigger};
use crate::metrics;
use crate::summary::first_sentence_rule;

/// The model and the worker, as results name them.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The model.
    pub model: ModelRef,
    /// The worker.
    pub worker: WorkerRef,
}

/// A loaded model.
pub struct ServedModel {
    /// The engine that runs it.
    pub engine: Arc<Engine>,
    /// The worker's defaults for parameters that a job leaves open.
    pub defaults: GenerationParams,
    /// Stops generation after the first sentence. Shared by all requests, so that the engine recognizes equal ones.
    pub first_sentence: StopRule,
    /// The names that results carry.
    pub signature: Arc<Signature>,
    /// Time from the start of loading to the first token.
    pub first_token: Duration,
}

/// The model that new jobs get. Reloading replaces it.
pub type CurrentModel = watch::Receiver<Arc<ServedModel>>;

impl ServedModel {
    /// Returns the maximum number of tokens in a summary if a job sets none.
    pub(crate) fn default_max_new_tokens(&self) -> u64 {
        let of_model = self.engine.default_params().max_new_tokens as u64;
        self.defaults.max_new_tokens.map_or(of_model, u64::from)
    }

    /// Loads the configured model and generates one token with it. Blocks.
    ///
    /// `newest` asks the hub for the newest commit of a branch, even if an older one is cached.
    ///
    /// # Errors
    /// When the model or the device is missing, the model doesn't fit into memory, or it generates nothing.
    pub fn load(
        config: &WorkerConfig,
        worker: &Token,
        served_as: &Token,
        newest: bool,
    ) -> Result<Self, ModelError> {
        let start = Instant::now();
        let engine = load::load(config, newest)?;
        generate_one_token(&engine).map_err(|error| ModelError::Unusable {
            model: config.model.clone().into(),
            reason: error.to_string(),
        })?;
        let first_token = start.elapsed();
        let info = engine.info();
        metrics::model_loaded(info.load_time, first_token);
        tracing::info!(
            model = %info.name,
            revision = %info.revision,
            first_token_ms = first_token.as_secs_f64() * 1e3,
            "model generated its first token"
        );
        let signature = Arc::new(Signature {
            model: ModelRef {
                served_as: served_as.clone(),
                name: info.name.clone(),
                revision: info.revision.clone(),
            },
            worker: WorkerRef {
                id: worker.clone(),
                device: info.device.to_owned(),
            },
        });
        Ok(Self {
            engine,
            defaults: config.params.clone(),
            first_sentence: first_sentence_rule(),
            signature,
            first_token,
        })
    }
}

/// Detects damaged weights before the first job does.
fn generate_one_token(engine: &Engine) -> Result<(), precis_engine::RowError> {
    let params = EngineParams {
        num_beams: 1,
        do_sample: false,
        min_new_tokens: 0,
        max_new_tokens: 1,
        ..EngineParams::default()
    };
    let request = GenerateRequest::new(engine.tokenize("The rain stopped.")?, params);
    engine.submit(&request)?.wait().map(drop)
}
