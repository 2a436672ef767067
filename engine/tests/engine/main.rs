//! Tests of the engine through its public calls: against transformers' results, of batches, of sampling, of refusals.

mod batching;
mod common;
mod errors;
mod golden;
mod reference;
mod sampling;
mod speed;
