//! Stage 3: text to tokens.

use std::time::Instant;

use precis_engine::{Encoded, Engine};

use super::decode::Accepted;

/// A job with its tokens.
pub struct Tokenized {
    /// The job.
    pub accepted: Accepted,
    /// What the model will read.
    pub encoded: Encoded,
    /// How long this took, in milliseconds.
    pub tokenize_ms: f64,
}

/// Turns a job's text into the tokens that the model reads, cut to what it can read.
///
/// # Errors
/// When the tokenizer refuses the text; the job comes back with the reason.
pub fn tokenize(engine: &Engine, accepted: Accepted) -> Result<Tokenized, Box<(Accepted, String)>> {
    let begun = Instant::now();
    match engine.tokenize(&accepted.job.text) {
        Ok(encoded) => Ok(Tokenized {
            accepted,
            encoded,
            tokenize_ms: begun.elapsed().as_secs_f64() * 1e3,
        }),
        Err(error) => Err(Box::new((accepted, error.to_string()))),
    }
}
