//! How to run a model, and the limits that follow from it.

use crate::batching::{Drafting, Settings};
use crate::config::{MAX_INPUT_TOKENS, ModelConfig};
use crate::device::{DeviceChoice, PrecisionChoice};
use crate::error::{LoadError, Result};
use crate::kernels::PANEL;
use crate::model::Backend;
use crate::tokenize::Prompt;

/// Decoder rows per compute thread on a CPU. Beyond this, throughput no longer rises with more rows.
const CPU_ROWS: usize = 128;
/// Decoder rows on a GPU.
const GPU_ROWS: usize = 1024;
/// Input tokens per prefill, or per step of a decoder-only model, on a CPU. Larger products are no faster there, and
/// other requests wait meanwhile.
const CPU_PREFILL_TOKENS: usize = 512;
/// Input tokens per prefill on a GPU.
const GPU_PREFILL_TOKENS: usize = 16_384;
/// Default size of all KV caches together, in bytes.
const CACHE_BYTES: usize = 1 << 30;
/// Default size of the encoder state cache, in bytes.
const TEXT_BYTES: usize = 64 << 20;

/// How to run a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// The device.
    pub device: DeviceChoice,
    /// The number format.
    pub precision: PrecisionChoice,
    /// Compute threads, each of which decodes its own requests. 0 means one per available CPU. A GPU uses one.
    pub threads: usize,
    /// Maximum input tokens, including the prompt. `None` means the model's own limit: 512 for T5, and the context less
    /// the room for a summary for decoder-only models.
    pub max_input_tokens: Option<usize>,
    /// Maximum decoder rows (beams) per compute thread. 0 means the device's default.
    pub max_rows: usize,
    /// Maximum bytes of the KV caches of all running requests at full length. 0 means 1 GiB. A single request always
    /// runs.
    pub cache_bytes: usize,
    /// Bytes of encoder states kept for repeated texts with other parameters.
    pub text_bytes: usize,
    /// Whether greedy search drafts its next tokens from the text. The result is the same.
    pub drafting: Drafting,
    /// Whether equal requests in flight are decoded once. Sampling without a seed is never shared.
    pub share_equal_requests: bool,
    /// Computes with candle's operations on the CPU too: slow, and the reference that the kernels are tested against.
    pub reference: bool,
    /// Maximum bytes of memory for loading. 0 means the free memory. A model that needs more is refused before it is
    /// read.
    pub memory_bytes: u64,
    /// What a decoder-only model is asked.
    pub prompt: Prompt,
    /// Asks the hub for a branch's newest commit even if an older one is cached.
    pub newest: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Auto,
            precision: PrecisionChoice::Auto,
            threads: 0,
            max_input_tokens: None,
            max_rows: 0,
            cache_bytes: 0,
            text_bytes: TEXT_BYTES,
            drafting: Drafting::Adaptive,
            share_equal_requests: true,
            reference: false,
            memory_bytes: 0,
            prompt: Prompt::default(),
            newest: false,
        }
    }
}

/// Derives the batching limits from the options, the device and the model's shape.
pub(crate) fn settings<B: Backend>(options: &EngineOptions, backend: &B, config: &ModelConfig) -> Settings {
    let on_cpu = backend.device() == "cpu" && !options.reference;
    let or = |value: usize, default: usize| if value == 0 { default } else { value };
    let threads = match on_cpu {
        true => or(
            options.threads,
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ),
        false => 1,
    };
    let panel = if on_cpu { PANEL } else { 1 };
    // Caches use bf16 unless products are exact f32.
    let bytes_per_number = if backend.precision() == "f32" { 4 } else { 2 };
    let shape = config.cache_shape();
    let bytes_per_token = shape.numbers_per_token() * bytes_per_number;
    Settings {
        threads,
        rows: or(options.max_rows, if on_cpu { CPU_ROWS } else { GPU_ROWS }),
        bytes: or(options.cache_bytes, CACHE_BYTES) / threads,
        prefill_tokens: if on_cpu {
            CPU_PREFILL_TOKENS
        } else {
            GPU_PREFILL_TOKENS
        },
        text_bytes: options.text_bytes,
        bytes_per_token,
        bytes_per_text_token: match config.has_encoder() {
            // Keys are stored in panels of `panel` tokens, values in panels of `panel` columns.
            true => {
                shape.layers
                    * shape.heads
                    * (shape.width + shape.width.next_multiple_of(panel))
                    * bytes_per_number
            }
            // The text is in the decoder's own cache.
            false => bytes_per_token,
        },
        text_tokens_together: if config.has_encoder() { panel } else { 1 },
        drafting: options.drafting,
        share_equal: options.share_equal_requests,
    }
}

/// Returns the input limit in tokens.
///
/// # Errors
/// A limit outside 2 to 16384, or beyond the model's context.
pub(crate) fn max_input_tokens(options: &EngineOptions, config: &ModelConfig) -> Result<usize> {
    let tokens = options.max_input_tokens.unwrap_or(config.input_limit());
    let most = config
        .context()
        .map_or(MAX_INPUT_TOKENS, |context| MAX_INPUT_TOKENS.min(context - 1));
    match (2..=most).contains(&tokens) {
        true => Ok(tokens),
        false => Err(LoadError::Config {
            file: "config.json",
            reason: format!("the input limit must be between 2 and {most} tokens, not {tokens}"),
        }),
    }
}
