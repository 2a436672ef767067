//! The stages of the pipeline, in the order in which a job passes them.

pub mod batch;
pub mod decode;
pub mod detokenize;
pub mod embed;
pub mod fetch;
pub mod infer;
pub mod long_text;
pub mod publish_result;
pub mod score;
pub mod settle;
pub mod tokenize;
