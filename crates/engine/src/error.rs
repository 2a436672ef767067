//! Errors: while loading a model, in a request's parameters, and in one row of a batch.

use std::path::PathBuf;

/// `Result` with [`LoadError`].
pub type Result<T, E = LoadError> = std::result::Result<T, E>;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file that the model needs is missing.
    #[error("{place} has no {file}: {hint}")]
    MissingFile {
        /// Name of the file inside the model's folder.
        file: String,
        /// The folder or repository that was searched.
        place: String,
        /// How to fix it.
        hint: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A configuration file is not valid JSON, lacks a key, or has an invalid value.
    #[error("{file} of the model is invalid: {reason}")]
    Config {
        /// Name of the file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine does not support this kind of model.
    #[error(
        "model type {found:?} is not supported: this engine runs t5, mt5, umt5, llama, mistral, qwen2, qwen3 and \
         gemma3 models"
    )]
    Architecture {
        /// `model_type` of `config.json`.
        found: String,
    },
    /// A GGUF file cannot be used.
    #[error("{} is not a usable GGUF file: {reason}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The prompt does not fit the model.
    #[error("the prompt cannot be used: {reason}")]
    Prompt {
        /// What is wrong with it.
        reason: String,
    },
    /// The weights cannot be parsed: truncated, overwritten, or not safetensors.
    #[error("the weights in {file} are corrupt: {reason}")]
    Weights {
        /// The file, or files.
        file: String,
        /// The parser's error.
        reason: String,
    },
    /// The weights lack a tensor that the configuration requires.
    #[error("the weights have no tensor {name}")]
    MissingTensor {
        /// Hugging Face name of the tensor.
        name: String,
    },
    /// A tensor's shape differs from the one that the configuration requires.
    #[error("tensor {name} has shape {found:?}; the configuration requires {expected:?}")]
    Shape {
        /// Hugging Face name of the tensor.
        name: String,
        /// Shape that follows from `config.json`.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor's element type is not a floating-point type.
    #[error("tensor {name} is stored as {found}: only f32, f16 and bf16 can be loaded")]
    ElementType {
        /// Hugging Face name of the tensor.
        name: String,
        /// Element type in the file.
        found: String,
    },
    /// A tensor contains an infinite value or NaN.
    #[error("tensor {name} holds values that are not finite: the weights are damaged")]
    NotFinite {
        /// Hugging Face name of the tensor.
        name: String,
    },
    /// `tokenizer.json`, or `spiece.model`, cannot be used.
    #[error("{file} of the model is invalid: {reason}")]
    Tokenizer {
        /// Name of the file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer produces ids that have no embedding.
    #[error("the tokenizer produces ids up to {highest}, but the model embeds only {vocabulary}")]
    TokenizerVocabulary {
        /// Highest id of the tokenizer.
        highest: u32,
        /// Rows of the embedding, `vocab_size`.
        vocabulary: usize,
    },
    /// The model does not fit into memory.
    #[error(
        "the model needs {} MiB of memory, but only {} MiB are available: try a smaller model or precision (bf16, int8)",
        needed >> 20, available >> 20
    )]
    Memory {
        /// Bytes that loading needs.
        needed: u64,
        /// Bytes that are available.
        available: u64,
    },
    /// A file could not be downloaded from the hub.
    #[error(
        "cannot get {file} of {id} at {revision} from the hub: {reason}; {}without the hub, put config.json, \
         tokenizer.json (or spiece.model) and model.safetensors into a folder and name the folder, as in ./{}",
        hub_hint(reason), id.rsplit('/').next().unwrap_or(id)
    )]
    Hub {
        /// Repository, `owner/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
        /// Name of the file.
        file: String,
        /// The client's error.
        reason: String,
    },
    /// The binary was built without the embedded model.
    #[error("this binary was built without the embedded model (cargo feature `embedded-model`)")]
    NotEmbedded,
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// The compute threads cannot be started.
    #[error("cannot start {threads} compute threads: {reason}")]
    Threads {
        /// Requested number of threads.
        threads: usize,
        /// The thread pool's error.
        reason: String,
    },
    /// The tensor library failed.
    #[error("the tensor library failed while loading: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Returns what to check if the hub has answered and refused.
fn hub_hint(reason: &str) -> &'static str {
    match ["401", "403", "404"].iter().any(|status| reason.contains(status)) {
        true => "check the name, and set HF_TOKEN if the repository is private; ",
        false => "",
    }
}

/// A parameter that is out of bounds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} must be {bounds}, not {value}")]
pub struct ParamError {
    /// The field of [`GenerationParams`](crate::GenerationParams).
    pub field: &'static str,
    /// The allowed values, in words.
    pub bounds: String,
    /// The rejected value.
    pub value: String,
}

/// Why one row of a batch has no result. The other rows of the batch are not affected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// A parameter is out of its bounds.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// The text could not be turned into token ids.
    #[error("cannot tokenize the text: {0}")]
    Tokenize(String),
    /// The encoded input has no tokens.
    #[error("the input has no tokens")]
    EmptyInput,
    /// The encoded input exceeds the engine's limit: another tokenizer made it.
    #[error("the input has {tokens} tokens; the limit is {most}")]
    InputTooLong {
        /// Tokens of the input.
        tokens: usize,
        /// The engine's `max_input_tokens`.
        most: usize,
    },
    /// The encoded input contains an id outside the vocabulary: another tokenizer made it.
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// `vocab_size`.
        vocabulary: usize,
    },
    /// The observer cancelled the row.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// The observer's reason.
        reason: String,
    },
    /// The model produced NaN for this row.
    #[error("the model produced NaN at step {step}")]
    NotANumber {
        /// Decoding step, from 0.
        step: usize,
    },
    /// The generated ids could not be decoded to text.
    #[error("cannot decode the generated tokens: {0}")]
    Decode(String),
    /// The computation of the whole batch failed, for example for lack of memory. Fewer rows may help.
    #[error("the computation failed: {0}")]
    Compute(String),
    /// A bug: the code for this row panicked. The engine keeps running.
    #[error("internal error: {0}")]
    Panicked(String),
}

impl RowError {
    /// Wraps the message of a caught panic.
    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked(message.unwrap_or_else(|| "a panic without a message".to_owned()))
    }
}
