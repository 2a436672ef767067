//! The router inside of a Lambda function: an API Gateway (REST or HTTP), a function URL or a load balancer calls it.

use std::time::Duration;

use http::Uri;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};
use precis_runtime::Context;
use precis_runtime::clock;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::local::{self, Local};
use crate::metrics;
use crate::router;

/// Where the runtime's interface is; set by Lambda.
pub(crate) const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// What else Lambda sets, and the runtime reads.
const NEEDED: [&str; 3] = [
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];
/// How long an answer is held back until the monitor is told.
const LONGEST_FLUSH: Duration = Duration::from_secs(2);
/// How long before its end an invocation gives up what is not done.
const MARGIN: Duration = Duration::from_secs(3);

/// Serves invocations until the process is to stop.
///
/// # Errors
/// When this is no Lambda function, or the model can't be loaded.
pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    for name in NEEDED {
        anyhow::ensure!(
            std::env::var_os(name).is_some(),
            "{RUNTIME_API} is set, as in a Lambda function, but {name} is not"
        );
    }
    // Others reach a function by nature: nothing says that it is only for this machine.
    anyhow::ensure!(
        context.config.access.is_decided(),
        "whoever may invoke this function could use it, and there are no keys: make one with `precis key`, or leave it to \
         the function's own policy who may, with access.insecure = true (PRECIS__ACCESS__INSECURE)"
    );
    metrics::describe();
    let Local {
        state,
        readiness,
        desk,
    } = local::start(context).await?;
    // Whoever called waits no longer for the routes that answer with the summary itself.
    let patience = Duration::from_secs(state.api().sync_wait_seconds);
    let router = router::router(state, readiness);
    let handler = tower::service_fn(move |request: Request| {
        let (router, desk) = (router.clone(), desk.clone());
        let until = (Instant::now() + patience).min(end_of(&request));
        async move {
            // While it was frozen, nobody did.
            desk.show_up();
            let answer = router.oneshot(without_stage(request)).await;
            // Afterwards the process is frozen: what was accepted is done before that.
            if tokio::time::timeout_at(until, desk.idle()).await.is_err() {
                tracing::warn!("the function's time is up before its jobs are done");
            }
            desk.flush(LONGEST_FLUSH).await;
            answer
        }
    });
    tracing::info!("serving a Lambda function");
    if context.config.access.keys.is_empty() {
        tracing::warn!("there are no keys: whoever may invoke this function may use the API");
    }
    tokio::select! {
        ended = lambda_http::run(handler) => {
            ended.map_err(|error| anyhow::anyhow!("the Lambda runtime: {error}"))
        }
        () = context.stop.cancelled() => Ok(()),
    }
}

/// Until when the jobs of an invocation may take.
fn end_of(request: &Request) -> Instant {
    // Milliseconds since 1970. Without an end there is nothing to wait for.
    let end = request.lambda_context_ref().map_or(0, |context| context.deadline);
    let left = Duration::from_millis(end).saturating_sub(now());
    Instant::now() + left.saturating_sub(MARGIN)
}

/// Time since 1970.
fn now() -> Duration {
    Duration::try_from(clock::now().duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

/// Takes the stage of an API off the path. The runtime puts it there for a REST API; an HTTP API has it there itself.
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
        // What can't be read as a path stays as it was, and is not found.
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
    fn a_stage_is_no_part_of_the_path() {
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
