//! Routes of the services that Precis replaces: MLflow's scoring server, SageMaker, the Lambda function and the article
//! service. They submit jobs, wait for them, and answer in the format that the service's clients expect.
//!
//! | file | content |
//! | --- | --- |
//! | `endpoints.rs`, `schemas.rs` | the routes with their documentation |
//! | `sync_call.rs` | submits jobs and waits for their summaries |
//! | `legacy_params.rs`, `nested.rs` | parameters and body formats that several routes share |
//! | `article.rs`, `score.rs`, `lambda.rs` | the article service and the Lambda function |
//! | `invocation.rs`, `mlflow/`, `sagemaker/` | MLflow and SageMaker |

mod article;
pub(crate) mod endpoints;
mod invocation;
mod lambda;
mod legacy_params;
mod mlflow;
mod nested;
mod sagemaker;
mod schemas;
mod score;
mod sync_call;

use crate::http::problem::ErrorFormat;

/// Formats of errors that occur before a route's handler runs.
pub(crate) const ERROR_FORMATS: &[ErrorFormat] = &[sagemaker::ERROR_FORMAT];
