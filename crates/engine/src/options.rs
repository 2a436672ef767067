//! How to run a model, and the limits that follow from it.

use crate::batching::{Drafting, Settings};
use crate::config::T5Config;
use crate::device::{DeviceChoice, PrecisionChoice};
use crate::error::{LoadError, Result};
use crate::kernels::PANEL;
use crate::model::Backend;

/// Input tokens of a model whose configuration names no limit.
const DEFAULT_INPUT_TOKENS: usize = 512;
/// Decoder rows per compute thread on a CPU. Beyond this, throughput no longer rises with more rows.
const CPU_ROWS: usize = 128;
/// Decoder rows on a GPU.
const GPU_ROWS: usize = 1024;
/// Input tokens per prefill on a CPU. Larger products are no faster there, and other requests wait meanwhile.
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
    /// Maximum input tokens, including prefix and end token. `None` means the model's own limit (512 for T5).
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
            newest: false,
        }
    }
}

/// Derives the batching limits from the options, the device and the model's shape.
pub(crate) fn settings<B: Backend>(options: &EngineOptions, backend: &B, config: &T5Config) -> Settings {
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
        bytes_per_token: config.num_decoder_layers * 2 * config.inner_dim() * bytes_per_number,
        // Keys are stored in panels of `panel` tokens, values in panels of `panel` columns.
        bytes_per_text_token: config.num_decoder_layers
            * config.num_heads
            * (config.d_kv + config.d_kv.next_multiple_of(panel))
            * bytes_per_number,
        text_tokens_together: panel,
        drafting: options.drafting,
        share_equal: options.share_equal_requests,
    }
}

/// Returns the input limit in tokens.
///
/// # Errors
/// A limit outside 2 to 16384.
pub(crate) fn max_input_tokens(options: &EngineOptions, config: &T5Config) -> Result<usize> {
    let tokens = options
        .max_input_tokens
        .or(config.n_positions)
        .unwrap_or(DEFAULT_INPUT_TOKENS);
    match (2..=16_384).contains(&tokens) {
        true => Ok(tokens),
        false => Err(LoadError::Config {
            file: "config.json",
            reason: format!("the input limit must be between 2 and 16384 tokens, not {tokens}"),
        }),
    }
}
