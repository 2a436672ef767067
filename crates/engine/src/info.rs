//! Facts about a loaded model.

use std::time::Duration;

/// Facts about a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Short name: the folder's or the repository's.
    pub name: String,
    /// Commit on the hub, or the first 12 hex digits of the SHA-256 of the files.
    pub revision: String,
    /// `t5`, `llama` or another `model_type` of `config.json`.
    pub architecture: &'static str,
    /// Whether an encoder reads the text. If so, a generated summary comes with the text's embedding.
    pub has_encoder: bool,
    /// Number of parameters.
    pub parameters: u64,
    /// Size of the vocabulary.
    pub vocabulary: usize,
    /// Width of the hidden states, and of the vectors that [`Engine::embed`](crate::Engine::embed) returns.
    pub d_model: usize,
    /// Maximum input tokens, including the prompt.
    pub max_input_tokens: usize,
    /// Prompt prefix of every text, for models with an encoder.
    pub prompt_prefix: String,
    /// Device: `cpu`, `cuda` or `metal`.
    pub device: &'static str,
    /// Number format of the products: `f32`, `bf16`, `f16` or `int8`.
    pub precision: &'static str,
    /// Instruction set of the CPU kernels: `avx512`, `avx2` or `portable`, with extensions.
    pub instructions: &'static str,
    /// Number of compute threads.
    pub threads: usize,
    /// Maximum decoder rows (beams) of all threads together.
    pub max_rows: usize,
    /// Time from the start of loading, including downloads, until the engine was ready.
    pub load_time: Duration,
    /// Resident memory of the process when the engine was ready, in bytes, if known.
    pub resident_bytes: Option<u64>,
}
