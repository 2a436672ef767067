//! The handlers, one file for each part of the interface.

pub(crate) mod analytics;
pub(crate) mod article;
pub(crate) mod batches;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod home;
pub(crate) mod invocation;
pub(crate) mod jobs;
mod knobs;
pub(crate) mod lambda;
pub(crate) mod mlflow;
pub(crate) mod references;
pub(crate) mod sagemaker;
pub(crate) mod score;
pub(crate) mod scores;
mod submission;
pub(crate) mod summaries;
mod wrapped;
