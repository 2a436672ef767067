//! T5 inference for summaries: load a model, tokenize, generate in batches. No network besides the download of a
//! model, and no queue.
//!
//! ```no_run
//! use precis_engine::{Engine, EngineOptions, GenerateRequest, ModelSource};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::load(&ModelSource::Path("models/t5-small".into()), &EngineOptions::default())?;
//! let encoded = engine.tokenize("The city will close its bridge next spring, the mayor said on Tuesday.")?;
//! let params = precis_engine::GenerationParams { num_beams: 4, ..engine.default_params().clone() };
//! for result in engine.generate_batch(&[GenerateRequest { encoded, params }], &mut ()) {
//!     println!("{}", result?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The parts, from the outside in: `engine` (the public calls), `tokenize`, `generate` (how tokens are chosen),
//! `model` (the T5 graph), `weights` and `source` (where they come from).

mod config;
mod device;
mod embedded;
mod engine;
mod error;
mod generate;
mod hub;
mod inspect;
mod mapped;
mod model;
mod source;
mod threads;
mod tokenize;
mod weights;

pub use candle_nn::Activation;
pub use config::{Architecture, T5Config};
pub use device::{DeviceChoice, DeviceError};
pub use engine::{Engine, EngineOptions, ModelInfo};
pub use error::{LoadError, Result, RowError};
pub use generate::{
    BatchObserver, EarlyStopping, FinishReason, GenerateRequest, Generated, GenerationParams, MAX_BEAMS,
    MAX_NEW_TOKENS, ParamError, RowDecision, Timings,
};
pub use source::{ModelSource, SourceError};
pub use tokenize::{DEFAULT_PREFIX, Encoded};
