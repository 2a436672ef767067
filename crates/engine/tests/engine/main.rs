//! Tests of the engine through its public calls: against transformers' results, of batches, of sampling, of refusals.

// clippy.toml allows it in test functions; helpers of tests are no different.
#![allow(clippy::unwrap_used)]

mod batching;
mod common;
mod continuous;
mod damaged;
mod errors;
mod golden;
mod oracle;
mod precision;
mod reference;
mod sampling;
mod speed;
mod wide;
