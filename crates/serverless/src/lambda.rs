//! Serves the events of an AWS Lambda function: API Gateway (REST and HTTP APIs), function URLs and load balancers.

use std::time::Duration;

use http::Uri;
use jiff::Timestamp;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};
use precis_runtime::RoleContext;
use precis_runtime::clock;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::LAMBDA_RUNTIME_API;
use crate::local;

/// The other variables that Lambda sets and its runtime reads.
const REQUIRED_VARIABLES: [&str; 3] = [
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];
/// Longest delay of a response while reports to the monitor are flushed.
const MAX_FLUSH: Duration = Duration::from_secs(2);
/// How long before its deadline an invocation stops waiting for jobs.
const MARGIN: Duration = Duration::from_secs(3);

/// Serves invocations until the process stops.
///
/// # Errors
/// Returns an error if this is not a Lambda function, access is not configured, or the model cannot be loaded.
pub(crate) async fn run(context: &RoleContext) -> anyhow::Result<()> {
    for name in REQUIRED_VARIABLES {
        anyhow::ensure!(
            std::env::var_os(name).is_some(),
            "{LAMBDA_RUNTIME_API} is set, as in a Lambda function, but {name} is not"
        );
    }
    // A function has no loopback address that would restrict it to this machine.
    anyhow::ensure!(
        context.config.access.is_configured(),
        "no API keys are configured, so every caller who may invoke this function could use it: create a key with \
         `precis key`, or set access.insecure = true (PRECIS__ACCESS__INSECURE) to rely on the function's own policy"
    );
    let local = local::start(context).await?;
    // The routes that answer with summaries wait no longer than this.
    let max_wait = Duration::from_secs(context.config.api.sync_wait_seconds);
    let router = local.gateway.router(&local.readiness);
    let dispatcher = local.dispatcher;
    let handler = tower::service_fn(move |request: Request| {
        let (router, dispatcher) = (router.clone(), dispatcher.clone());
        let deadline = (Instant::now() + max_wait).min(deadline_of(&request));
        async move {
            // A frozen function sends no heartbeats, so the last one may be old.
            dispatcher.send_heartbeat();
            let response = router.oneshot(without_stage(request)).await;
            // Lambda freezes the function after the response, so accepted jobs have to end first.
            if tokio::time::timeout_at(deadline, dispatcher.idle())
                .await
                .is_err()
            {
                tracing::warn!("the invocation's time ran out before its jobs ended");
            }
            dispatcher.flush(MAX_FLUSH).await;
            response
        }
    });
    tracing::info!("serving a Lambda function");
    if context.config.access.keys.is_empty() {
        tracing::warn!(
            "no API keys are configured: every caller who may invoke this function may use the API"
        );
    }
    tokio::select! {
        outcome = lambda_http::run(handler) => {
            outcome.map_err(|error| anyhow::anyhow!("the Lambda runtime failed: {error}"))
        }
        () = context.stop.cancelled() => Ok(()),
    }
}

/// Returns until when the jobs of an invocation may run.
fn deadline_of(request: &Request) -> Instant {
    // Milliseconds since 1970. An event without a deadline is not waited for.
    let deadline = request.lambda_context_ref().map_or(0, |context| context.deadline);
    let left = Duration::from_millis(deadline).saturating_sub(since_epoch());
    Instant::now() + left.saturating_sub(MARGIN)
}

fn since_epoch() -> Duration {
    Duration::try_from(clock::now().duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

/// Removes the stage of an API from the path. The runtime adds it for a REST API; an HTTP API sends it.
fn without_stage(mut request: Request) -> Request {
    let raw = request.raw_http_path();
    let path = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(_)) => raw.to_owned(),
        Some(RequestContext::ApiGatewayV2(context)) => {
            let stage = context.stage.as_deref().unwrap_or_default();
            let rest = raw.strip_prefix('/').and_then(|path| path.strip_prefix(stage));
            rest.filter(|rest| rest.starts_with('/'))
                .unwrap_or(raw)
                .to_owned()
        }
        _ => return request,
    };
    if path != request.uri().path() {
        let query = request
            .uri()
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        // A path that does not parse stays as it is, and no route matches it.
        if let Ok(uri) = format!("{path}{query}").parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(event: &serde_json::Value) -> String {
        let request = lambda_http::request::from_str(&event.to_string()).unwrap();
        without_stage(request).uri().to_string()
    }

    #[test]
    fn the_stage_is_removed_from_the_path() {
        let rest = |path: &str| {
            serde_json::json!({
                "resource": "/{proxy+}", "path": path, "httpMethod": "GET", "headers": {}, "multiValueHeaders": {},
                "requestContext": {"stage": "v1", "httpMethod": "GET", "resourcePath": "/{proxy+}", "identity": {}},
                "multiValueQueryStringParameters": {"wait": ["3"]}, "isBase64Encoded": false
            })
        };
        assert!(path_of(&rest("/v1/models")).ends_with("/v1/models?wait=3"));
        assert_eq!(path_of(&rest("/ping")), "/ping?wait=3");
        let http = |stage: &str, path: &str| {
            serde_json::json!({
                "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": {},
                "requestContext": {"stage": stage, "http": {"method": "GET", "path": path}}, "isBase64Encoded": false
            })
        };
        assert!(path_of(&http("$default", "/v1/models")).ends_with("/v1/models"));
        assert_eq!(path_of(&http("prod", "/prod/v1/models")), "/v1/models");
        assert_eq!(path_of(&http("v1", "/v1/v1/models")), "/v1/models");
    }
}
