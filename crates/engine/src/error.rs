//! What can go wrong: while loading a model, in the parameters of a request, in one row of a batch.

use std::path::PathBuf;

use crate::generate::ParamError;

/// `Result` with [`LoadError`].
pub type Result<T, E = LoadError> = std::result::Result<T, E>;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file that the model needs is not there.
    #[error("{place} has no {file}: {hint}")]
    MissingFile {
        /// Name of the file inside the model's folder.
        file: String,
        /// The folder or repository that was looked at.
        place: String,
        /// What would help.
        hint: &'static str,
    },
    /// A file is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A configuration file is not valid JSON, lacks a key or has a value that makes no sense.
    #[error("{file} of the model is wrong: {reason}")]
    Config {
        /// Name of the file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The model is of a kind that this engine does not run.
    #[error(
        "model type {found:?} is not supported: this engine runs encoder-decoder t5, mt5 and umt5 models"
    )]
    Architecture {
        /// `model_type` of `config.json`.
        found: String,
    },
    /// The weights cannot be parsed: cut off, overwritten or not safetensors at all.
    #[error("the weights in {file} are corrupt: {reason}")]
    Weights {
        /// The file, or files.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// A tensor that the configuration asks for is not in the weights.
    #[error("the weights have no tensor {name}")]
    MissingTensor {
        /// Hugging Face name of the tensor.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor {name} has shape {found:?}, and the configuration asks for {expected:?}")]
    Shape {
        /// Hugging Face name of the tensor.
        name: String,
        /// Shape that follows from `config.json`.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor has an element type that is not a floating-point one.
    #[error("tensor {name} is stored as {found}: only f32, f16 and bf16 can be loaded")]
    ElementType {
        /// Hugging Face name of the tensor.
        name: String,
        /// Element type in the file.
        found: String,
    },
    /// A tensor holds a value that is infinite or not a number.
    #[error("tensor {name} holds values that are not finite: the weights are damaged")]
    NotFinite {
        /// Hugging Face name of the tensor.
        name: String,
    },
    /// `tokenizer.json`, or the `spiece.model` in its place, cannot be used.
    #[error("{file} of the model is wrong: {reason}")]
    Tokenizer {
        /// Name of the file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer can give ids that the model has no embedding for.
    #[error("the tokenizer gives ids up to {highest}, and the model embeds only {vocabulary}")]
    TokenizerVocabulary {
        /// Highest id of the tokenizer.
        highest: u32,
        /// Rows of the embedding, `vocab_size`.
        vocabulary: usize,
    },
    /// The weights don't fit into memory.
    #[error(
        "the model needs {} MiB of memory, and {} MiB are available: a smaller model or precision (bf16, int8) may fit",
        needed >> 20, available >> 20
    )]
    Memory {
        /// Bytes that loading it takes.
        needed: u64,
        /// Bytes that can be had.
        available: u64,
    },
    /// The hub could not give a file.
    #[error("cannot get {file} of {id} at {revision} from the hub: {reason}")]
    Hub {
        /// Repository, `owner/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
        /// Name of the file.
        file: String,
        /// What the client says.
        reason: String,
    },
    /// The embedded model was asked for and this binary was built without it.
    #[error("this binary was built without the embedded model (cargo feature `embedded-model`)")]
    NotEmbedded,
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// The compute threads cannot be started.
    #[error("cannot start {threads} compute threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the pool says.
        reason: String,
    },
    /// The tensor library refused an operation.
    #[error("the tensor library failed while loading: {0}")]
    Tensor(#[from] candle_core::Error),
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
    /// The encoded input is longer than the engine takes: it was not made by this engine's tokenizer.
    #[error("the input has {tokens} tokens, and the most is {most}")]
    InputTooLong {
        /// Tokens of the input.
        tokens: usize,
        /// The engine's `max_input_tokens`.
        most: usize,
    },
    /// The encoded input has an id outside the vocabulary: it was not made by this engine's tokenizer.
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// `vocab_size`.
        vocabulary: usize,
    },
    /// The observer took the row out of the batch.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// The reason that the observer gave.
        reason: String,
    },
    /// The model gave scores that are not numbers for this row.
    #[error("the model gave scores that are not numbers at step {step}")]
    NotANumber {
        /// Decoding step, from 0.
        step: usize,
    },
    /// The ids could not be turned into text.
    #[error("cannot decode the generated tokens: {0}")]
    Decode(String),
    /// The computation of the whole batch failed, for example for want of memory. Fewer rows may help.
    #[error("the computation failed: {0}")]
    Compute(String),
    /// A bug: the code of this row panicked. The engine goes on.
    #[error("internal error: {0}")]
    Panicked(String),
}

impl RowError {
    /// What a caught panic says.
    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked(message.unwrap_or_else(|| "a panic without a message".to_owned()))
    }
}
