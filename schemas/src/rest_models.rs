//! Bodies of `GET /v1/models`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::subject::{Lane, Token};

/// Body of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelList {
    /// Models of live workers, by name.
    pub models: Vec<ModelView>,
}

/// A model of live workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelView {
    /// Value for `model` in requests.
    pub served_as: Token,
    /// The model's own name. `model` accepts it too.
    pub name: String,
    /// Revision of the weights: a hub commit, or a prefix of their SHA-256.
    pub revision: String,
    /// Whether it serves requests without `model`.
    pub default: bool,
    /// Whether live workers serve another model or revision under the same name too, so that requests get either one.
    /// Expected only while a model is replaced.
    #[serde(default)]
    pub mixed: bool,
    /// Number of live workers that serve it.
    pub workers: u64,
    /// Distinct devices of its workers: `cpu`, `cuda`, `metal`.
    pub devices: Vec<String>,
    /// Lanes that at least one of its workers pulls.
    pub lanes: Vec<Lane>,
    /// Number of jobs its workers hold.
    pub in_flight: u64,
    /// Measured jobs per second of all its workers while busy. Absent before the first job ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_per_second: Option<f64>,
    /// Limits of its requests.
    pub limits: ModelLimits,
}

/// Limits of requests for a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelLimits {
    /// Maximum input of the model, in tokens. Longer inputs are truncated.
    pub max_input_tokens: u64,
    /// Maximum length of a text, in characters.
    pub max_text_chars: u64,
    /// Maximum length of a reference or given summary, in characters.
    pub max_reference_chars: u64,
    /// Maximum number of beams.
    pub max_num_beams: u32,
    /// Maximum number of tokens in a summary.
    pub max_new_tokens: u32,
    /// Maximum number of jobs in a worker's decoding batch.
    pub max_batch: u64,
}
