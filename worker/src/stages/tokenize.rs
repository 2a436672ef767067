//! Stage 3: text to tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::time::Instant;

use precis_engine::Encoded;

use super::decode::Accepted;
use crate::serving::Serving;

/// A text of up to so many bytes is read where it is: handing it to another thread and back costs as well, and the thread is
/// not held for long.
const SHORT: usize = 4 << 10;

/// A job with its tokens.
pub struct Tokenized {
    /// The job.
    pub accepted: Accepted,
    /// The model that it goes to, whatever comes after it.
    pub serving: Arc<Serving>,
    /// What the model will read.
    pub encoded: Encoded,
    /// How long this took, in milliseconds.
    pub tokenize_ms: f64,
}

/// Turns a job's text into the tokens that the model reads, cut to what it can read.
///
/// Long texts take a while, so that they are read on a thread for blocking work; a panic in the tokenizer costs
/// only this job.
///
/// # Errors
/// When the tokenizer refuses the text; the job comes back with the reason.
pub async fn tokenize(
    serving: Arc<Serving>,
    accepted: Accepted,
) -> Result<Tokenized, Box<(Accepted, String)>> {
    let begun = Instant::now();
    let text = &accepted.job.text;
    let outcome = if text.len() <= SHORT {
        // Nothing of the engine's is left half done: a tokenizer only reads.
        match catch_unwind(AssertUnwindSafe(|| serving.engine.tokenize(text))) {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err("it panicked".to_owned()),
        }
    } else {
        let (engine, text) = (serving.engine.clone(), text.clone());
        match tokio::task::spawn_blocking(move || engine.tokenize(&text)).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(panic) => Err(panic.to_string()),
        }
    };
    match outcome {
        Ok(encoded) => Ok(Tokenized {
            accepted,
            serving,
            encoded,
            tokenize_ms: begun.elapsed().as_secs_f64() * 1e3,
        }),
        Err(reason) => Err(Box::new((accepted, reason))),
    }
}
