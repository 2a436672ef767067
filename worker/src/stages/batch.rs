//! Stage 4: form a batch, its rows in order of length, so that rows of like length stand together when
//! it has to be split.

use precis_engine::{GenerateRequest, GenerationParams as EngineParams};
use precis_schemas::GenerationParams;

use super::tokenize::Tokenized;
use crate::model::engine_params;

/// A job in a batch.
pub struct Row {
    /// The job with its tokens.
    pub tokenized: Tokenized,
    /// What the engine is asked.
    pub request: GenerateRequest,
    /// The client's parameters, filled up from the worker's.
    pub wanted: GenerationParams,
}

/// Jobs that the model sees together.
pub struct Batch {
    /// Shortest first.
    pub rows: Vec<Row>,
}

impl Batch {
    /// A batch of `jobs`; parameters that a job leaves open come from `defaults`, and what those leave
    /// open from the model.
    pub fn form(jobs: Vec<Tokenized>, defaults: &GenerationParams, model: &EngineParams) -> Self {
        let mut rows: Vec<Row> = jobs
            .into_iter()
            .map(|tokenized| {
                let wanted = tokenized.accepted.job.params.or(defaults);
                let params = engine_params(&wanted, model);
                let request = GenerateRequest {
                    encoded: tokenized.encoded.clone(),
                    params,
                    stop: None,
                };
                Row {
                    tokenized,
                    request,
                    wanted,
                }
            })
            .collect();
        rows.sort_by_key(|row| row.tokenized.encoded.tokens);
        Self { rows }
    }

    /// Number of jobs.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without a job.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
