//! Stage 3: turns the text into tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use precis_engine::{Encoded, Engine};
use precis_runtime::clock::Instant;
use precis_schemas::error_code::{ErrorCode, Refusal};

/// Texts of up to this many bytes are tokenized on the calling thread: switching threads would take longer.
const MAX_INLINE_BYTES: usize = 4 << 10;

/// A text as tokens.
#[derive(Debug)]
pub struct Tokenized {
    /// The tokens, cut to what the model reads.
    pub encoded: Encoded,
    /// How long tokenization took, in milliseconds.
    pub millis: f64,
}

/// Tokenizes a text, on a blocking thread if it is long. A panic of the tokenizer fails only this job.
///
/// # Errors
/// When the tokenizer fails.
pub async fn tokenize(engine: &Arc<Engine>, text: &str) -> Result<Tokenized, Refusal> {
    let start = Instant::now();
    let tokenized = if text.len() <= MAX_INLINE_BYTES {
        // Tokenizing changes nothing in the engine, so a panic can't leave it broken.
        match catch_unwind(AssertUnwindSafe(|| engine.tokenize(text))) {
            Ok(encoded) => encoded.map_err(|error| error.to_string()),
            Err(_) => Err("the tokenizer panicked".to_owned()),
        }
    } else {
        let (engine, text) = (engine.clone(), text.to_owned());
        match tokio::task::spawn_blocking(move || engine.tokenize(&text)).await {
            Ok(encoded) => encoded.map_err(|error| error.to_string()),
            Err(panic) => Err(panic.to_string()),
        }
    };
    match tokenized {
        Ok(encoded) => Ok(Tokenized {
            encoded,
            millis: start.elapsed().as_secs_f64() * 1e3,
        }),
        Err(reason) => Err(Refusal::new(
            ErrorCode::InferenceFailed,
            format!("tokenizing the text failed: {reason}"),
        )),
    }
}
