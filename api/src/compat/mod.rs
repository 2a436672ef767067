//! Routes of the services that Precis replaces: MLflow's scoring server, SageMaker, the Lambda function, and the seed's
//! own article routes. All of them submit jobs, wait, and answer in the shape their clients expect.

mod article;
pub(crate) mod endpoints;
mod invocation;
mod knobs;
mod lambda;
mod mlflow;
mod sagemaker;
mod schemas;
mod score;
mod sync;
mod wrapped;

use crate::http::problem::ErrorFormat;

/// Formats of errors that occur before a route's handler runs.
pub(crate) const ERROR_FORMATS: &[ErrorFormat] = &[sagemaker::ERROR_FORMAT];
