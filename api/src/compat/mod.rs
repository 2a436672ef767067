//! Routes of the services that Precis replaces: MLflow's scoring server, SageMaker, the Lambda function, and the seed's
//! own article routes. All of them submit jobs, wait, and answer in the shape their clients expect.

pub(crate) mod article;
pub(crate) mod invocation;
mod knobs;
pub(crate) mod lambda;
pub(crate) mod mlflow;
pub(crate) mod sagemaker;
pub(crate) mod score;
pub(crate) mod sync;
mod wrapped;

use crate::http::problem::ErrorFormat;

/// Formats of errors that occur before a route's handler runs.
pub(crate) const ERROR_FORMATS: &[ErrorFormat] = &[sagemaker::ERROR_FORMAT];
