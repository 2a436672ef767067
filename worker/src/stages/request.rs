//! Stage 4: builds the engine's request, with every parameter that the job leaves open filled in.

use std::sync::Arc;

use precis_engine::GenerateRequest;
use precis_schemas::params::LongText as LongTextMode;
use precis_schemas::{GenerationParams, Job};

use super::long_text::LongText;
use super::tokenize::Tokenized;
use crate::model::{ServedModel, engine_params};
use crate::summary::summary_of;

/// A job as the engine runs it.
pub struct ModelRequest {
    /// The job's parameters, completed with the worker's defaults.
    pub params: GenerationParams,
    /// The request for a text that the model reads whole.
    pub generate: GenerateRequest,
    /// The text, if it is summarized in chunks instead.
    pub long_text: Option<LongText>,
    /// How long tokenization took, in milliseconds.
    pub tokenize_ms: f64,
}

impl ModelRequest {
    /// Returns the number of tokens of the text that the model reads.
    pub fn input_tokens(&self) -> usize {
        let encoded = &self.generate.encoded;
        match self.long_text {
            Some(_) => encoded.tokens,
            None => encoded.ids.len(),
        }
    }

    /// Builds the request of a job. Open parameters get the worker's defaults, and then the model's.
    pub fn new(job: &Job, tokenized: Tokenized, model: &ServedModel) -> Self {
        let params = job.params.or(&model.defaults);
        let truncated = tokenized.encoded.truncated_tokens > 0;
        let engine_params = engine_params(&params, model.engine.default_params());
        let mut generate = GenerateRequest::new(tokenized.encoded, engine_params);
        if params.first_sentence.unwrap_or(true) {
            generate.stop = Some(model.first_sentence.clone());
        }
        let in_chunks = params.long_text == Some(LongTextMode::MapReduce) && truncated;
        let long_text = in_chunks.then(|| {
            let params = params.clone();
            LongText {
                text: job.text.clone(),
                params: generate.params.clone(),
                stop: generate.stop.clone(),
                keep: Arc::new(move |text| summary_of(text, &params)),
            }
        });
        Self {
            params,
            generate,
            long_text,
            tokenize_ms: tokenized.millis,
        }
    }
}
