//! The engine: a model, its tokenizer and its compute threads behind a few calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::channel::mpsc::unbounded;

use crate::batching::{Batcher, Event, Generation, Load, Subscriber, Threads};
use crate::config::ModelConfig;
use crate::device::Target;
use crate::error::{Result, RowError};
use crate::faulty::Faulty;
use crate::generate::{
    BatchObserver, GenerateRequest, Generated, GenerationDefaults, GenerationParams, RowDecision,
};
use crate::info::ModelInfo;
use crate::kernels::Isa;
use crate::memory;
use crate::model::{Backend, Cpu, Model, Tensors};
use crate::noop;
use crate::options::{EngineOptions, max_input_tokens, settings};
use crate::source::{ModelFiles, ModelSource, find};
use crate::tokenize::{Encoded, TextTokenizer, Tokenize};
use crate::weights::Weights;

/// A loaded model with its compute threads. Share it in an `Arc`: requests of all callers are decoded together.
///
/// When the last owner drops it, the threads finish their requests and exit. To replace a model, load the new one, send
/// new requests to it, and drop the old one.
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
    /// Locates, checks and loads a model. Blocks while its files are read and, for the hub, downloaded.
    ///
    /// # Errors
    /// A [`LoadError`](crate::LoadError) that names the file, tensor or setting that is missing or wrong.
    pub fn load(source: &ModelSource, options: &EngineOptions) -> Result<Self> {
        let begun = crate::clock::now();
        let target = options.device.open(options.precision, options.reference)?;
        let Some(files) = find(source, options.newest)? else {
            tracing::warn!(
                "no model loaded; answering every text with its first sentence (for benchmarks only)"
            );
            let batcher: Box<dyn Batcher> = match source {
                ModelSource::Faulty => Box::new(Faulty::default()),
                _ => Box::new(noop::FirstSentence),
            };
            return Ok(Self {
                batcher,
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
        let config = ModelConfig::from_json(&files.config)?;
        let defaults = GenerationDefaults::from_json(files.generation.as_deref(), &config)?;
        let max_input_tokens = max_input_tokens(options, &config)?;
        let tokenizer = Arc::new(TextTokenizer::new(
            &files.tokenizer,
            &files.chat,
            &config,
            &options.prompt,
            max_input_tokens,
        )?);
        let settings = settings(options, backend, &config);
        let weights = Weights::open(&files.weights)?;
        let untied = config.is_untied(weights.has("lm_head.weight"));
        if backend.device() == "cpu" {
            memory::check(&config, backend.precision(), untied, options.memory_bytes)?;
        }
        let model = Model::load(backend, &weights, config, max_input_tokens)?;
        let config = model.config();
        let info = ModelInfo {
            name: files.name,
            revision: files.revision,
            architecture: config.architecture(),
            has_encoder: config.has_encoder(),
            parameters: config.parameters(untied),
            vocabulary: config.vocabulary(),
            d_model: config.width(),
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

    /// Returns facts about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Returns the model's default generation parameters.
    pub fn default_params(&self) -> &GenerationParams {
        &self.defaults.params
    }

    /// Encodes a text as token ids: prompt prefix, text, end token. Truncates a text that is too long.
    ///
    /// # Errors
    /// [`RowError::Tokenize`] if the tokenizer fails.
    pub fn tokenize(&self, text: &str) -> Result<Encoded, RowError> {
        self.tokenizer.encode(text)
    }

    /// Decodes token ids to text, without special tokens and surrounding white space. Also decodes partial results.
    ///
    /// # Errors
    /// [`RowError::Decode`] if the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, RowError> {
        self.tokenizer.decode(ids)
    }

    /// Like [`decode`](Self::decode) for ids that others may follow: leaves out the last character while some of its
    /// bytes are missing.
    ///
    /// # Errors
    /// [`RowError::Decode`] if the tokenizer fails.
    pub fn decode_so_far(&self, ids: &[u32]) -> Result<String, RowError> {
        self.tokenizer.decode_so_far(ids)
    }

    /// Returns the current load of the compute threads.
    pub fn load_now(&self) -> Load {
        self.batcher.load()
    }

    /// Queues a request and returns at once. It joins the decoding batch as soon as there is room.
    ///
    /// # Errors
    /// Parameters out of bounds, and ids outside the vocabulary.
    pub fn submit(&self, request: &GenerateRequest) -> Result<Generation, RowError> {
        self.check(request)?;
        let (sender, events) = unbounded();
        let dropped = Arc::<AtomicBool>::default();
        let sink = Box::new(move |event| {
            // A failed send means the receiver is gone. The request then leaves the batch before its next step.
            let _ = sender.unbounded_send(event);
        });
        self.batcher
            .submit(request, Subscriber::new(sink, dropped.clone()));
        Ok(Generation { events, dropped })
    }

    /// Generates for several requests and blocks until all are done. Do not call it from an async task.
    ///
    /// Results are in the order of the requests. A request that fails does not affect the others. Parameters may differ
    /// per request, and requests of other callers share the decoding batch.
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
                // The receiver outlives every row of this call.
                let _ = sender.send((row, event));
            });
            self.batcher.submit(request, Subscriber::new(sink, gone));
        }
        drop(sender);
        while results.iter().any(Option::is_none) {
            // All senders are gone only if the compute threads died, which is a bug.
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

/// Asks the observer whether to continue a row. A panic in the observer fails that row only.
fn keep(observer: &mut dyn BatchObserver, row: usize, tokens: &[u32]) -> Result<(), RowError> {
    match catch_unwind(AssertUnwindSafe(|| observer.keep(row, tokens.len(), tokens))) {
        Ok(RowDecision::Continue) => Ok(()),
        Ok(RowDecision::Cancel(reason)) => Err(RowError::Cancelled { reason }),
        Err(panic) => Err(RowError::panicked(panic.as_ref())),
    }
}
