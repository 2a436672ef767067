//! Stage 4: a job becomes a request to the engine, with every parameter that its client left open.

use precis_engine::{GenerateRequest, GenerationParams as EngineParams, StopRule};
use precis_schemas::GenerationParams;

use super::tokenize::Tokenized;
use crate::model::engine_params;

/// A job that the model is asked about.
pub struct Row {
    /// The job with its tokens.
    pub tokenized: Tokenized,
    /// What the engine is asked.
    pub request: GenerateRequest,
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
        Row {
            tokenized: job,
            request,
            wanted,
        }
    }
}
