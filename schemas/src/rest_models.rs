//! Bodies of `GET /v1/models`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::subject::{Lane, Token};

/// Body of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelList {
    /// Models that live workers serve, by name.
    pub models: Vec<ModelView>,
}

/// A model that live workers serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelView {
    /// What to write into `model` of a request.
    pub served_as: Token,
    /// The model's own name; works in `model` of a request too.
    pub name: String,
    /// Which weights: a hub commit, or the start of the weights' SHA-256.
    pub revision: String,
    /// Whether requests without `model` go there.
    pub default: bool,
    /// Live workers that serve it.
    pub workers: u64,
    /// What they run on, without repetition: `cpu`, `cuda`, `metal`.
    pub devices: Vec<String>,
    /// Priorities that at least one of them takes.
    pub lanes: Vec<Lane>,
    /// Jobs that they hold at the moment.
    pub in_flight: u64,
    /// Jobs that they do together in a second while they are busy, as measured; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_per_second: Option<f64>,
    /// What a request for it may ask.
    pub limits: ModelLimits,
}

/// What a request for a model may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelLimits {
    /// Longest input that the model reads, in tokens; what is longer is cut.
    pub max_input_tokens: u64,
    /// Longest text that is taken, in characters.
    pub max_text_chars: u64,
    /// Longest reference or given summary that is taken, in characters.
    pub max_reference_chars: u64,
    /// Most beams.
    pub max_num_beams: u32,
    /// Most tokens of a summary.
    pub max_new_tokens: u32,
    /// Most jobs that one worker gives to the model at a time.
    pub max_batch: u64,
}
