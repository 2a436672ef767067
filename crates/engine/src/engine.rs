//! The engine: a model, its tokenizer and its threads behind a few calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::channel::mpsc::unbounded;

use crate::batching::{Batcher, Drafting, Event, Generation, Load, Settings, Subscriber, Threads};
use crate::config::T5Config;
use crate::device::{DeviceChoice, PrecisionChoice, Target};
use crate::error::{LoadError, Result, RowError};
use crate::generate::{
    BatchObserver, GenerateRequest, Generated, GenerationDefaults, GenerationParams, RowDecision,
};
use crate::kernels::{Isa, PANEL};
use crate::memory;
use crate::model::{Backend, Cpu, T5Model, Tensors};
use crate::noop;
use crate::source::{ModelFiles, ModelSource, find};
use crate::tokenize::{Encoded, TextTokenizer, Tokenize};
use crate::weights::Weights;

/// Input tokens of a model that doesn't say how many it was trained for.
const DEFAULT_INPUT_TOKENS: usize = 512;

/// Decoder rows of a compute thread where nothing else is said: beyond it a row costs as much as the one before.
const CPU_ROWS: usize = 128;
/// The same on a GPU.
const GPU_ROWS: usize = 1024;
/// Input tokens that are read at once: a longer product is no faster on a CPU, and others wait meanwhile.
const CPU_PREFILL_TOKENS: usize = 512;
/// The same on a GPU.
const GPU_PREFILL_TOKENS: usize = 16_384;
/// Bytes of the caches of all requests in hand where nothing else is said.
const CACHE_BYTES: usize = 1 << 30;
/// Bytes of texts that are kept after their requests.
const TEXT_BYTES: usize = 64 << 20;

/// How to run a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Where.
    pub device: DeviceChoice,
    /// In which numbers.
    pub precision: PrecisionChoice,
    /// Compute threads, each of which decodes requests of its own; 0 is one for each CPU that the process may use. A
    /// GPU has one.
    pub threads: usize,
    /// Most tokens of an input, prefix and end token included; nothing takes the model's own (512 for T5).
    pub max_input_tokens: Option<usize>,
    /// Most decoder rows (beams) that a compute thread has in hand; 0 is a good number for the device.
    pub max_rows: usize,
    /// Bytes that the caches of all requests in hand may take, at their longest; 0 is 1 GiB. One request is always taken.
    pub cache_bytes: usize,
    /// Bytes of texts whose encoder states are kept for requests with other parameters.
    pub text_bytes: usize,
    /// Whether greedy search guesses its next tokens from the text: the result is the same.
    pub drafting: Drafting,
    /// Whether equal requests in flight are decoded once. Samples without a seed are never equal.
    pub share_equal_requests: bool,
    /// Compute with candle's operations on the CPU too: slow, and what the kernels are tested against.
    pub reference: bool,
    /// Bytes of memory that loading may take; 0 is what is free. A model that needs more is refused before it is read.
    pub memory_bytes: u64,
    /// Ask the hub for the newest commit of a branch, though an older one may be in the cache.
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

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Short name: the folder's or the repository's.
    pub name: String,
    /// Commit on the hub, or the first 12 hex digits of the SHA-256 of the weights.
    pub revision: String,
    /// Member of the T5 family, `model_type` of `config.json`.
    pub architecture: &'static str,
    /// Numbers in the model.
    pub parameters: u64,
    /// Tokens that the model knows.
    pub vocabulary: usize,
    /// Width of the hidden states, and so of [`Engine::embed`]'s vectors.
    pub d_model: usize,
    /// Most tokens of an input, prefix and end token included.
    pub max_input_tokens: usize,
    /// What is put before every text.
    pub prompt_prefix: String,
    /// Where it runs: `cpu`, `cuda`, `metal`.
    pub device: &'static str,
    /// What it computes in: `f32`, `bf16`, `f16`, `int8`.
    pub precision: &'static str,
    /// Instructions that the CPU's kernels use: `avx512`, `avx2`, `portable`, with what they have besides.
    pub instructions: &'static str,
    /// Compute threads.
    pub threads: usize,
    /// Most decoder rows (beams) that all threads have in hand together.
    pub max_rows: usize,
    /// From the beginning of the load, download included, to the engine being ready.
    pub load_time: Duration,
    /// Bytes of the process in memory when the engine was ready; nothing where that can't be known.
    pub resident_bytes: Option<u64>,
}

/// A loaded model with its compute threads: share it by `Arc`. Requests of all callers are decoded together. When the
/// last owner is gone the threads finish what they have been given, and end: to replace a model, load the other one,
/// give it the new requests, and drop this one.
pub struct Engine {
    batcher: Box<dyn Batcher>,
    tokenizer: Arc<dyn Tokenize>,
    defaults: GenerationDefaults,
    info: ModelInfo,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Finds, checks and loads a model. Takes as long as its files take to read (and, for the hub, to download).
    ///
    /// # Errors
    /// A [`LoadError`] that names the file, tensor or setting that is missing or wrong.
    pub fn load(source: &ModelSource, options: &EngineOptions) -> Result<Self> {
        let begun = crate::clock::now();
        let target = options.device.open(options.precision, options.reference)?;
        let Some(files) = find(source, options.newest)? else {
            tracing::warn!(
                "no model is loaded: every text is answered with its first sentence, for benchmarks"
            );
            return Ok(Self {
                batcher: Box::new(noop::FirstSentence),
                tokenizer: Arc::new(noop::Bytes),
                defaults: noop::defaults(),
                info: noop::info(),
            });
        };
        let mut engine = match target {
            Target::Kernels(precision) => Self::load_on(&Cpu::new(Isa::detect(), precision), files, options)?,
            Target::Tensors(device, dtype) => Self::load_on(&Tensors::new(device, dtype), files, options)?,
        };
        engine.info.load_time = begun.elapsed();
        engine.info.resident_bytes = memory::resident();
        let info = &engine.info;
        tracing::info!(
            model = info.name,
            revision = info.revision,
            parameters = info.parameters,
            precision = info.precision,
            instructions = info.instructions,
            threads = info.threads,
            load_ms = info.load_time.as_secs_f64() * 1e3,
            resident_mb = info.resident_bytes.map(|bytes| bytes >> 20),
            "model loaded"
        );
        Ok(engine)
    }

    fn load_on<B: Backend>(backend: &B, files: ModelFiles, options: &EngineOptions) -> Result<Self> {
        let config = T5Config::from_json(&files.config)?;
        let defaults = GenerationDefaults::from_json(files.generation.as_deref(), &config)?;
        let max_input_tokens = max_input_tokens(options, &config)?;
        let tokenizer = Arc::new(TextTokenizer::new(&files.tokenizer, &config, max_input_tokens)?);
        let settings = settings(options, backend, &config);
        let weights = Weights::open(&files.weights)?;
        if backend.device() == "cpu" {
            let untied = weights.has("lm_head.weight");
            memory::check(&config, backend.precision(), untied, options.memory_bytes)?;
        }
        let model = T5Model::load(backend, &weights, config, max_input_tokens)?;
        let config = model.config();
        let info = ModelInfo {
            name: files.name,
            revision: files.revision,
            architecture: config.architecture.as_str(),
            parameters: model.parameters(),
            vocabulary: config.vocab_size,
            d_model: config.d_model,
            max_input_tokens,
            prompt_prefix: tokenizer.prefix().to_owned(),
            device: backend.device(),
            precision: backend.precision(),
            instructions: Isa::detect().name(),
            threads: settings.threads,
            max_rows: settings.threads * settings.rows,
            load_time: Duration::ZERO,
            resident_bytes: None,
        };
        let tokens = (defaults.start, defaults.eos.clone());
        let batcher = Threads::start(model, backend, tokenizer.clone(), tokens, settings)?;
        Ok(Self {
            batcher: Box::new(batcher),
            tokenizer,
            defaults,
            info,
        })
    }

    /// What is known of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The parameters of a request that names none: the model's own.
    pub fn default_params(&self) -> &GenerationParams {
        &self.defaults.params
    }

    /// Turns a text into the ids that the model reads: prompt prefix, text, end token; too long a text is cut.
    ///
    /// # Errors
    /// [`RowError::Tokenize`], which a text in valid UTF-8 is not known to cause.
    pub fn tokenize(&self, text: &str) -> Result<Encoded, RowError> {
        self.tokenizer.encode(text)
    }

    /// The text of ids, without special tokens and without white space around it. Also for a part of a result, as an
    /// observer sees it.
    ///
    /// # Errors
    /// [`RowError::Decode`], which ids of this engine are not known to cause.
    pub fn decode(&self, ids: &[u32]) -> Result<String, RowError> {
        self.tokenizer.decode(ids)
    }

    /// How busy the compute threads are.
    pub fn load_now(&self) -> Load {
        self.batcher.load()
    }

    /// Gives the engine a request, and returns at once. It joins those that are being decoded as soon as there is room.
    ///
    /// # Errors
    /// Parameters out of their bounds, and ids that are not this engine's.
    pub fn submit(&self, request: &GenerateRequest) -> Result<Generation, RowError> {
        self.check(request)?;
        let (sender, events) = unbounded();
        let dropped = Arc::<AtomicBool>::default();
        let sink = Box::new(move |event| {
            // Nobody listens any more: the request is taken out before its next step.
            let _ = sender.unbounded_send(event);
        });
        self.batcher
            .submit(request, Subscriber::new(sink, dropped.clone()));
        Ok(Generation { events, dropped })
    }

    /// Generates for several requests, and blocks until the last is done: call it from a thread that may. Results are in
    /// the order of the requests; one that fails doesn't touch the others. They may have different parameters, and are
    /// decoded together with those of other callers.
    pub fn generate_batch(
        &self,
        requests: &[GenerateRequest],
        observer: &mut dyn BatchObserver,
    ) -> Vec<Result<Generated, RowError>> {
        let mut results: Vec<Option<Result<Generated, RowError>>> = vec![None; requests.len()];
        let mut dropped: Vec<Arc<AtomicBool>> = Vec::with_capacity(requests.len());
        let (sender, events) = mpsc::channel();
        for (row, request) in requests.iter().enumerate() {
            let gone = Arc::<AtomicBool>::default();
            dropped.push(gone.clone());
            let refused = self.check(request).and_then(|()| keep(observer, row, &[]));
            if let Err(error) = refused {
                results[row] = Some(Err(error));
                continue;
            }
            let sender = sender.clone();
            let sink = Box::new(move |event| {
                // The receiver is there until the last row has ended.
                let _ = sender.send((row, event));
            });
            self.batcher.submit(request, Subscriber::new(sink, gone));
        }
        drop(sender);
        while results.iter().any(Option::is_none) {
            // All senders gone: the threads that had the rest have ended, which only a defect brings about.
            let Ok((row, event)) = events.recv() else { break };
            if results[row].is_some() {
                continue;
            }
            match event {
                Event::Started => {}
                Event::Tokens(tokens) => {
                    if let Err(error) = keep(observer, row, &tokens) {
                        dropped[row].store(true, Ordering::Relaxed);
                        results[row] = Some(Err(error));
                    }
                }
                Event::Finished(generated) => results[row] = Some(Ok(*generated)),
                Event::Failed(error) => results[row] = Some(Err(error)),
            }
        }
        let missing = || Err(RowError::Compute("the engine ended without this row".to_owned()));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(missing))
            .collect()
    }

    fn check(&self, request: &GenerateRequest) -> Result<(), RowError> {
        request.params.validate()?;
        self.check_ids(&request.encoded.ids)
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<(), RowError> {
        let most = self.tokenizer.max_input_tokens();
        let vocabulary = self.info.vocabulary;
        match ids {
            [] => Err(RowError::EmptyInput),
            _ if ids.len() > most => Err(RowError::InputTooLong {
                tokens: ids.len(),
                most,
            }),
            _ => match ids.iter().find(|id| **id as usize >= vocabulary) {
                Some(id) => Err(RowError::TokenOutOfRange { id: *id, vocabulary }),
                None => Ok(()),
            },
        }
    }

    pub(crate) fn batcher(&self) -> &dyn Batcher {
        &*self.batcher
    }
}

/// Asks an observer about a row; its panic is the row's end.
fn keep(observer: &mut dyn BatchObserver, row: usize, tokens: &[u32]) -> Result<(), RowError> {
    match catch_unwind(AssertUnwindSafe(|| observer.keep(row, tokens.len(), tokens))) {
        Ok(RowDecision::Continue) => Ok(()),
        Ok(RowDecision::Cancel(reason)) => Err(RowError::Cancelled { reason }),
        Err(panic) => Err(RowError::panicked(panic.as_ref())),
    }
}

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
    // Caches are in bf16 where products are less exact than f32.
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
        // Keys in panels of so many tokens, values in panels as wide.
        bytes_per_text_token: config.num_decoder_layers
            * config.num_heads
            * (config.d_kv + config.d_kv.next_multiple_of(panel))
            * bytes_per_number,
        text_tokens_together: panel,
        drafting: options.drafting,
        share_equal: options.share_equal_requests,
    }
}

fn max_input_tokens(options: &EngineOptions, config: &T5Config) -> Result<usize> {
    let tokens = options
        .max_input_tokens
        .or(config.n_positions)
        .unwrap_or(DEFAULT_INPUT_TOKENS);
    match (2..=16_384).contains(&tokens) {
        true => Ok(tokens),
        false => Err(LoadError::Config {
            file: "config.json",
            reason: format!(
                "at least 2 and at most 16384 input tokens are possible, and {tokens} are asked for"
            ),
        }),
    }
}
