//! The gateway without a queue: it runs the model in its own process and keeps jobs and results in memory.
//!
//! It serves the same routes as `precis-api`, either on a port or, with the feature `lambda`, in an AWS Lambda
//! function.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`local`] | loads the model and builds the gateway |
//! | [`dispatcher`] | takes jobs from the queue, runs the model on them, stores their results |
//! | [`queue`] | the queue in memory, on the [`job_table`] and the [`records`] of calls |
//! | [`monitor`], [`metrics`] | report summaries to a monitor, measure results |
//! | `lambda` | serves the events of a Lambda function |

mod dispatcher;
mod job_table;
#[cfg(feature = "lambda")]
mod lambda;
mod local;
mod metrics;
mod monitor;
mod queue;
mod records;
#[cfg(test)]
mod testing;

pub use metrics::describe as describe_metrics;

use precis_runtime::RoleContext;
use precis_runtime::config::EngineChoice;

/// The variable that Lambda sets: the address of its runtime API.
const LAMBDA_RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// Runs the gateway until the process stops: on Lambda, with the model in this process, or on a queue.
///
/// In a Lambda function the engine is always the local one. Otherwise `api.engine` decides.
///
/// # Errors
/// Returns an error if the port cannot be bound, NATS cannot be reached, the streams are wrong, or the model cannot be
/// loaded.
pub async fn run(context: RoleContext) -> anyhow::Result<()> {
    if std::env::var_os(LAMBDA_RUNTIME_API).is_some() {
        return Box::pin(run_on_lambda(context)).await;
    }
    match context.config.api.engine {
        EngineChoice::Queue => Box::pin(precis_api::run(context)).await,
        EngineChoice::Local => Box::pin(local::run(context)).await,
    }
}

#[cfg(feature = "lambda")]
async fn run_on_lambda(context: RoleContext) -> anyhow::Result<()> {
    lambda::run(&context).await
}

#[cfg(not(feature = "lambda"))]
async fn run_on_lambda(_: RoleContext) -> anyhow::Result<()> {
    anyhow::bail!(
        "{LAMBDA_RUNTIME_API} is set, but this program was built without support for Lambda: \
         build it with `cargo build --features lambda`"
    )
}
