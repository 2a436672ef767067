//! Tests of the public interface: comparison with transformers, batching, sampling, errors.

// clippy.toml allows unwrap in test functions only; these are helpers of tests.
#![allow(clippy::unwrap_used)]

mod batching;
mod causal;
mod common;
mod continuous;
mod damaged;
mod errors;
mod gguf;
mod golden;
mod oracle;
mod precision;
mod reference;
mod sampling;
mod smollm2;
mod speed;
mod wide;
