//! The engine: a model, its tokenizer and its threads behind a few calls.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::T5Config;
use crate::device::{DeviceChoice, device_name};
use crate::error::{LoadError, Result, RowError};
use crate::generate::{
    BatchObserver, GenerateRequest, Generated, GenerationDefaults, GenerationParams, Job, Outcome, run,
};
use crate::model::T5Model;
use crate::source::{ModelFiles, ModelSource, find};
use crate::threads::ComputePools;
use crate::tokenize::{Encoded, TextTokenizer};
use crate::weights::Weights;

/// Input tokens of a model that doesn't say how many it was trained for.
const DEFAULT_INPUT_TOKENS: usize = 512;

/// How to run a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// Where.
    pub device: DeviceChoice,
    /// Compute threads of one batch; 0 is one for each CPU that the process may use.
    pub threads: usize,
    /// Most tokens of an input, prefix and end token included; nothing takes the model's own (512 for T5).
    pub max_input_tokens: Option<usize>,
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
    /// What it computes in: `f32`, `bf16`, `f16`.
    pub precision: &'static str,
    /// Compute threads of one batch.
    pub threads: usize,
}

/// A loaded model, ready for any number of threads at the same time: share it by `Arc`.
pub struct Engine {
    model: T5Model,
    tokenizer: TextTokenizer,
    defaults: GenerationDefaults,
    pools: ComputePools,
    info: ModelInfo,
    batches: AtomicU64,
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
        let (device, dtype) = options.device.open()?;
        let files = find(source)?;
        let config = T5Config::from_json(&files.config)?;
        let defaults = GenerationDefaults::from_json(files.generation.as_deref(), &config)?;
        let max_input_tokens = max_input_tokens(options, &config)?;
        let tokenizer = TextTokenizer::new(&files.tokenizer, &config, max_input_tokens)?;
        let ModelFiles {
            name,
            revision,
            weights,
            ..
        } = files;
        let pools = ComputePools::new(options.threads)?;
        let load = || {
            T5Model::load(
                &Weights::open(&weights, &device, dtype)?,
                config,
                device.clone(),
                dtype,
            )
        };
        let model = pools.run(load)?;
        let info = ModelInfo {
            name,
            revision,
            architecture: model.config().architecture.as_str(),
            parameters: model.parameters(),
            vocabulary: model.config().vocab_size,
            d_model: model.config().d_model,
            max_input_tokens,
            prompt_prefix: tokenizer.prefix().to_owned(),
            device: device_name(model.device()),
            precision: model.dtype().as_str(),
            threads: pools.threads(),
        };
        tracing::info!(
            model = info.name,
            revision = info.revision,
            parameters = info.parameters,
            "model loaded"
        );
        Ok(Self {
            model,
            tokenizer,
            defaults,
            pools,
            info,
            batches: AtomicU64::new(0),
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

    /// Generates for a batch, and blocks until the last row is done: call it from a thread that may. Results are in
    /// the order of the requests; a row that fails doesn't touch the others. Rows may have different parameters.
    pub fn generate_batch(
        &self,
        requests: &[GenerateRequest],
        observer: &mut dyn BatchObserver,
    ) -> Vec<Result<Generated, RowError>> {
        let batch = self.batches.fetch_add(1, Ordering::Relaxed);
        let _span = tracing::debug_span!("generate_batch", batch, rows = requests.len()).entered();
        let mut results: Vec<Option<Result<Generated, RowError>>> = vec![None; requests.len()];
        let mut jobs = Vec::with_capacity(requests.len());
        for (row, request) in requests.iter().enumerate() {
            match self.check(request) {
                Ok(()) => jobs.push(Job {
                    row,
                    ids: &request.encoded.ids,
                    params: &request.params,
                    seed: request.params.seed.unwrap_or_else(rand::random),
                }),
                Err(error) => results[row] = Some(Err(error)),
            }
        }
        let seeds: Vec<(usize, u64)> = jobs.iter().map(|job| (job.row, job.seed)).collect();
        if !jobs.is_empty() {
            let tokens = (self.defaults.start, self.defaults.eos.as_slice());
            let outcomes = self.pools.run(|| {
                let mut outcomes = Vec::new();
                run(&self.model, tokens, jobs, observer, |row, outcome| {
                    outcomes.push((row, outcome));
                });
                outcomes
            });
            for (row, outcome) in outcomes {
                results[row] = Some(outcome.and_then(|outcome| self.generated(outcome)));
            }
        }
        for (row, seed) in seeds {
            if let Some(Ok(generated)) = &mut results[row]
                && requests[row].params.do_sample
            {
                generated.seed = Some(seed);
            }
        }
        let missing = || Err(RowError::Compute("the batch ended without this row".to_owned()));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(missing))
            .collect()
    }

    fn generated(&self, outcome: Outcome) -> Result<Generated, RowError> {
        Ok(Generated {
            text: self.tokenizer.decode(&outcome.ids)?,
            ids: outcome.ids,
            score: outcome.score,
            finish: outcome.finish,
            seed: None,
            timings: outcome.timings,
            padding_ratio: outcome.padding_ratio,
        })
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

    pub(crate) fn model(&self) -> &T5Model {
        &self.model
    }

    pub(crate) fn start_token(&self) -> u32 {
        self.defaults.start
    }

    pub(crate) fn pools(&self) -> &ComputePools {
        &self.pools
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
