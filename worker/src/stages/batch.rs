//! Stage 4: a job becomes a request to the engine, with every parameter that its client left open.

use std::sync::Arc;

use precis_engine::{GenerateRequest, GenerationParams as EngineParams, StopRule};
use precis_schemas::GenerationParams;
use precis_schemas::params::LongText as Wanted;

use super::detokenize::summary_of;
use super::long_text::LongText;
use super::tokenize::Tokenized;
use crate::model::engine_params;

/// A job that the model is asked about.
pub struct Row {
    /// The job with its tokens.
    pub tokenized: Tokenized,
    /// What the engine is asked, if the text is read at once.
    pub request: GenerateRequest,
    /// The text, if it is longer than the model reads and is to be read in parts.
    pub long: Option<LongText>,
    /// The client's parameters, filled up from the worker's.
    pub wanted: GenerationParams,
}

/// Makes requests of jobs.
#[derive(Clone)]
pub struct Requests {
    /// What a job leaves open.
    pub defaults: GenerationParams,
    /// What is left open then: the model's own.
    pub model: EngineParams,
    /// Ends a text whose first sentence is complete, where no more than that is kept.
    pub first_sentence: StopRule,
}

impl Requests {
    /// The request of a job.
    pub fn form(&self, job: Tokenized) -> Row {
        let wanted = job.accepted.job.params.or(&self.defaults);
        let mut request = GenerateRequest::new(job.encoded.clone(), engine_params(&wanted, &self.model));
        if wanted.first_sentence.unwrap_or(true) {
            request.stop = Some(self.first_sentence.clone());
        }
        let in_parts = wanted.long_text == Some(Wanted::MapReduce) && job.encoded.truncated_tokens > 0;
        let long = in_parts.then(|| {
            let wanted = wanted.clone();
            LongText {
                text: job.accepted.job.text.clone(),
                params: request.params.clone(),
                stop: request.stop.clone(),
                keep: Arc::new(move |text| summary_of(text, &wanted)),
            }
        });
        Row {
            tokenized: job,
            request,
            long,
            wanted,
        }
    }
}
