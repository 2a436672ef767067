//! SageMaker endpoints, as `boto3` calls them with `endpoint_url`: `POST /endpoints/{name}/invocations` and
//! `…/invocations-response-stream`. The body is that of a container, see [`super::invocation`].
//!
//! Signatures are ignored: verifying them takes the AWS account's keys.

mod error;
mod event_stream;

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, future, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use precis_runtime::config::LimitsConfig;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::Channel;

pub(crate) use self::error::ERROR_FORMAT;

use self::error::SageMakerError;
use super::invocation::{self, BodyFormat, FIELD, Invocation};
use crate::access::Caller;
use crate::compat::sync_call::SyncCall;
use crate::gateway::state::AppState;
use crate::http::extract::read_body;
use crate::http::problem::ApiError;

const VARIANT: HeaderName = HeaderName::from_static("x-amzn-invoked-production-variant");
const TARGET_VARIANT: &str = "x-amzn-sagemaker-target-variant";
const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");
const INFERENCE_ID: &str = "x-amzn-sagemaker-inference-id";
const STREAM_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-amzn-sagemaker-content-type");
/// Identical in every attempt of the same call.
const CALL_ID: &str = "amz-sdk-invocation-id";
/// The name of an endpoint's default variant.
const ALL_TRAFFIC: HeaderValue = HeaderValue::from_static("AllTraffic");

/// `POST /endpoints/{name}/invocations`.
pub(crate) async fn invoke(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, SageMakerError> {
    let headers = request.headers().clone();
    let (call, invocation) = read(state, caller, trace, &name, request).await?;
    let summaries = call
        .summarize_all(FIELD, invocation.items, &invocation.params)
        .await?;
    Ok(with_headers(invocation.format.response(summaries), &headers))
}

/// `POST /endpoints/{name}/invocations-response-stream`: the same body in parts. Each summary comes as soon as it and
/// those before it are ready.
pub(crate) async fn invoke_stream(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, SageMakerError> {
    let headers = request.headers().clone();
    let (call, invocation) = read(state, caller, trace, &name, request).await?;
    let summaries = call.stream(FIELD, invocation.items, invocation.params).await?;
    let frames = frames(invocation.format, summaries);
    let body = Body::from_stream(frames.map(Ok::<_, std::convert::Infallible>));
    let content_types = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(event_stream::CONTENT_TYPE),
        ),
        (STREAM_CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    Ok(with_headers((content_types, body).into_response(), &headers))
}

/// Encodes the body as frames. After a failure, an exception replaces the rest.
fn frames(
    format: BodyFormat,
    summaries: impl Stream<Item = Result<String, ApiError>> + Send,
) -> impl Stream<Item = bytes::Bytes> + Send {
    let (begin, end) = match format {
        BodyFormat::List => ("[", "]"),
        BodyFormat::Table => ("{\"predictions\":[", "]}"),
    };
    let part = move |(index, summary): (usize, Result<String, ApiError>)| {
        let comma = if index == 0 { "" } else { "," };
        summary.map(|text| {
            let text = serde_json::Value::from(text);
            match format {
                BodyFormat::List => format!("{comma}{text}"),
                BodyFormat::Table => format!("{comma}{{\"summarization\":{text}}}"),
            }
        })
    };
    let parts = stream::once(future::ready(Ok(begin.to_owned())))
        .chain(summaries.enumerate().map(part))
        .chain(stream::once(future::ready(Ok(end.to_owned()))));
    // Ends the stream after a failure.
    parts.scan(false, |failed, part| {
        let ended = std::mem::replace(failed, part.is_err());
        future::ready((!ended).then(|| match part {
            Ok(text) => event_stream::part(text),
            Err(error) => event_stream::exception(error),
        }))
    })
}

/// Resolves the endpoint and parses the body.
async fn read(
    state: AppState,
    caller: Caller,
    trace: TraceContext,
    name: &str,
    request: Request,
) -> Result<(SyncCall, Invocation), SageMakerError> {
    let model = model_of(&state, name)?;
    let headers = request.headers().clone();
    let body = read_body(request, state.limits().body_bytes(), state.http().body_timeout()).await?;
    let invocation = invocation::parse(&headers, &body)?;
    let metadata = metadata(name, &headers, state.limits());
    let call = SyncCall::new(state, caller, trace, Channel::Sagemaker)
        .with_model(model)
        .with_metadata(metadata)
        .with_repeat_key(text(&headers, CALL_ID).map(str::to_owned));
    Ok((call, invocation))
}

/// Returns the model of an endpoint: the model of the same name if a worker serves it, else `None` for the default
/// model.
fn model_of(state: &AppState, endpoint: &str) -> Result<Option<String>, SageMakerError> {
    if let Some(served_as) = state.workers().resolve(endpoint) {
        return Ok(Some(served_as.to_string()));
    }
    let known = &state.api().endpoints;
    match known.is_empty() || known.iter().any(|name| name == endpoint) {
        true => Ok(None),
        false => Err(SageMakerError::no_such_endpoint(endpoint)),
    }
}

/// Returns the metadata of a call's jobs.
fn metadata(endpoint: &str, headers: &HeaderMap, limits: &LimitsConfig) -> BTreeMap<String, String> {
    [
        ("sagemaker_endpoint", Some(endpoint)),
        ("sagemaker_inference_id", text(headers, INFERENCE_ID)),
        (
            "sagemaker_custom_attributes",
            text(headers, CUSTOM_ATTRIBUTES.as_str()),
        ),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
    .filter(|(_, value)| value.len() <= limits.max_metadata_bytes)
    .take(limits.max_metadata_entries)
    .collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Adds SageMaker's response headers: the requested variant or the default one, and the caller's custom attributes.
fn with_headers(mut response: Response, request: &HeaderMap) -> Response {
    let variant = request.get(TARGET_VARIANT).cloned().unwrap_or(ALL_TRAFFIC);
    response.headers_mut().insert(VARIANT, variant);
    if let Some(attributes) = request.get(&CUSTOM_ATTRIBUTES) {
        response
            .headers_mut()
            .insert(CUSTOM_ATTRIBUTES, attributes.clone());
    }
    response
}
