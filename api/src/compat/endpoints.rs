//! The routes of other services, with their documentation.

use axum::Extension;
use precis_runtime::admin::Readiness;
use precis_schemas::ErrorCode::*;

use super::schemas::*;
use super::{article, invocation, lambda, mlflow, sagemaker, score};
use crate::gateway::state::AppState;
use crate::openapi::schema::{name, none, text};
use crate::openapi::{Operation, QUEUE_ERRORS, Route, TEXT_ERRORS, Tag};

const JSON: &str = "application/json";

/// Returns all of them.
pub(crate) fn all(readiness: &Readiness) -> Vec<Route<AppState>> {
    let mut routes = articles_and_lambda();
    routes.extend(mlflow_routes(readiness));
    routes.extend(sagemaker_routes());
    routes
}

fn articles_and_lambda() -> Vec<Route<AppState>> {
    vec![
        Route::new("/article/summarize").post(
            article::summarize,
            synchronous("summarizeArticle", "Summarize an article")
                .body_as(JSON, article)
                .returns_as(200, "The summary", JSON, summary),
        ),
        Route::new("/article/summarize_batch").post(
            article::summarize_batch,
            synchronous("summarizeArticles", "Summarize several articles, all or none")
                .body_as(JSON, articles)
                .returns_as(200, "The summaries", JSON, summaries),
        ),
        Route::new("/model/score").post(
            score::score,
            synchronous("scoreModel", "Score the model's summaries against references")
                .body_as(JSON, pairs)
                .returns_as(200, "The mean scores", JSON, rouge),
        ),
        Route::new("/online-predict").post(
            lambda::online,
            synchronous("predictOnline", "Summarize an article, like the Lambda function")
                .body_as(JSON, lambda_article)
                .returns_as(
                    200,
                    "The summary; as JSON if `Accept` names it explicitly",
                    "text/plain",
                    text,
                )
                .returns_as(200, "The summary", JSON, summary),
        ),
        Route::new("/batch-predict").post(
            lambda::batch,
            synchronous(
                "predictBatch",
                "Summarize several articles, like the Lambda function",
            )
            .body_as(JSON, lambda_articles)
            .returns_as(200, "The summaries", JSON, summaries),
        ),
        Route::new("/score").post(
            lambda::score,
            synchronous(
                "scorePairs",
                "Score the model's summaries, like the Lambda function",
            )
            .body_as(JSON, lambda_pairs)
            .returns_as(200, "The mean scores", JSON, rouge),
        ),
    ]
}

/// An operation that submits jobs and waits for them. Its errors are problems.
fn synchronous(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Compatibility, id, summary)
        .errors(&TEXT_ERRORS)
        .errors(&QUEUE_ERRORS)
        .errors(&[
            WaitTimeout,
            DeadlineExceeded,
            TooManyAttempts,
            InferenceFailed,
            Cancelled,
        ])
}

fn mlflow_routes(readiness: &Readiness) -> Vec<Route<AppState>> {
    let routes = vec![
        Route::new("/invocations").post(invocation::invoke, invoke()),
        Route::new("/ping").get(mlflow::ping, ping("ping")),
        Route::new("/health").get(mlflow::ping, ping("health")),
        Route::new("/version").get(
            mlflow::version,
            mlflow_operation(
                "mlflowVersion",
                "Get the MLflow version that these routes imitate",
            )
            .describe("The body is plain text with a JSON content type, as MLflow sends it.")
            .without_key()
            .returns_as(200, "The version, for example `3.17.2`", JSON, none),
        ),
    ];
    let finish = |route: Route<AppState>| {
        let readiness = Extension(readiness.clone());
        route.map(|handlers| handlers.fallback(mlflow::method_not_allowed).layer(readiness))
    };
    routes.into_iter().map(finish).collect()
}

/// An operation of MLflow's server, which answers a wrong method in its own format.
fn mlflow_operation(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Compatibility, id, summary).returns_as(
        405,
        "The method is not allowed",
        JSON,
        mlflow_detail,
    )
}

fn ping(id: &'static str) -> Operation {
    mlflow_operation(id, "Check whether the default model is served")
        .describe("The body is an empty line with a JSON content type, as MLflow sends it.")
        .without_key()
        .returns_as(200, "The model is served", JSON, none)
        .returns_as(404, "No worker serves the model", JSON, none)
        .returns_as(503, "The queue is unavailable", JSON, none)
}

fn invoke() -> Operation {
    let errors = [
        (400, "The body is invalid; the error has MLflow's format"),
        (409, "The job was cancelled"),
        (413, "The body is too large"),
        (422, "A text or parameter is invalid"),
        (500, "The model failed"),
        (503, "The queue is full or unavailable"),
        (504, "The call timed out; the jobs continue"),
    ];
    let operation = mlflow_operation(
        "invoke",
        "Summarize a table or a list of texts, like MLflow's scoring server and a SageMaker container",
    )
    .body_as(JSON, invocation)
    .body_as("text/csv", text)
    .returns_as(
        200,
        "Predictions for a table, a list for a list",
        JSON,
        predictions,
    )
    .returns_as(415, "The content type is not supported", "text/plain", text);
    errors
        .into_iter()
        .fold(operation, |operation, (status, line)| {
            operation.returns_as(status, line, JSON, mlflow_error)
        })
        .errors(&TEXT_ERRORS)
        .errors(&QUEUE_ERRORS)
        .errors(&[
            WaitTimeout,
            DeadlineExceeded,
            TooManyAttempts,
            InferenceFailed,
            Cancelled,
        ])
}

fn sagemaker_routes() -> Vec<Route<AppState>> {
    vec![
        Route::new("/endpoints/{name}/invocations").post(
            sagemaker::invoke,
            sagemaker_operation("invokeEndpoint", "Invoke an endpoint, like the SageMaker runtime")
                .returns_as(
                    200,
                    "Predictions for a table, a list for a list",
                    JSON,
                    predictions,
                ),
        ),
        Route::new("/endpoints/{name}/invocations-response-stream").post(
            sagemaker::invoke_stream,
            sagemaker_operation(
                "invokeEndpointWithResponseStream",
                "Invoke an endpoint and stream the response in parts",
            )
            .returns_as(
                200,
                "Frames of Amazon's event stream encoding",
                "application/vnd.amazon.eventstream",
                text,
            ),
        ),
    ]
}

fn sagemaker_operation(id: &'static str, summary: &'static str) -> Operation {
    let errors = [
        (
            400,
            "`ValidationError`: the endpoint does not exist, the path or body is too long, or the body is incomplete",
        ),
        (403, "`AccessDeniedException`: the key is missing or unknown"),
        (
            424,
            "`ModelError`: the model rejected the body; see `OriginalStatusCode` and `OriginalMessage`",
        ),
        (
            429,
            "`ModelNotReadyException`: no worker serves the model; `ThrottlingException`: too many calls",
        ),
        (500, "`InternalFailure`"),
        (503, "`ServiceUnavailable`: the queue is full or unavailable"),
        (
            504,
            "`ModelError`: the call timed out; the jobs continue, and `OriginalMessage` has their ids",
        ),
    ];
    let operation = Operation::new(Tag::Compatibility, id, summary)
        .custom_errors()
        .path(
            "name",
            "Any name, unless the deployment lists its endpoints",
            name,
        )
        .body_as(JSON, invocation)
        .body_as("text/csv", text);
    errors.into_iter().fold(operation, |operation, (status, line)| {
        operation.returns_as(status, line, JSON, sagemaker_error)
    })
}
