//! Inference for summarization with T5 and decoder-only models: loads a model, tokenizes, and generates in continuous
//! batches. It knows no queue, and uses the network only to download a model.
//!
//! ```no_run
//! use precis_engine::{Engine, EngineOptions, GenerateRequest, ModelSource};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::load(&ModelSource::Path("models/t5-small".into()), &EngineOptions::default())?;
//! let encoded = engine.tokenize("The city will close its bridge next spring, the mayor said on Tuesday.")?;
//! let params = precis_engine::GenerationParams { num_beams: 4, ..engine.default_params().clone() };
//! let generation = engine.submit(&GenerateRequest::new(encoded, params))?;
//! println!("{}", generation.wait()?.text);
//! # Ok(())
//! # }
//! ```
//!
//! Modules, from the outside in: `engine` (the public calls), `tokenize`, `batching` (which requests are decoded when),
//! `generate` (how tokens are chosen), `model` (the model graphs), `kernels` (CPU arithmetic), `weights` and `source`
//! (where the parameters come from).

mod batching;
mod clock;
mod config;
mod device;
mod engine;
mod error;
mod faulty;
mod generate;
mod gguf;
mod info;
mod inspect;
/// Exposed for benchmarks and tests only.
#[doc(hidden)]
pub mod kernels;
mod mapped;
mod memory;
mod model;
mod noop;
mod options;
mod sentencepiece;
mod source;
mod tokenize;
mod weights;

pub use batching::{Drafting, Event, Generation, Load};
pub use candle_nn::Activation;
pub use config::{Architecture, T5Config};
pub use device::{DeviceChoice, DeviceError, PrecisionChoice};
pub use engine::Engine;
pub use error::{LoadError, ParamError, Result, RowError};
pub use generate::{
    Alternative, BatchObserver, EarlyStopping, FinishReason, GenerateRequest, Generated, GenerationParams,
    MAX_BEAMS, MAX_NEW_TOKENS, RowDecision, StopRule, Timings,
};
pub use info::ModelInfo;
pub use memory::resident as resident_bytes;
pub use options::EngineOptions;
pub use source::{FAULTY, ModelSource, NO_OP, SourceError};
pub use tokenize::{DEFAULT_PREFIX, Encoded, Prompt};
