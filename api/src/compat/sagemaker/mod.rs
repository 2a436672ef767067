//! A SageMaker endpoint, as `boto3` with `endpoint_url` calls it: `POST /endpoints/{name}/invocations` and
//! `…/invocations-response-stream`. The body is what a container gets (see [`super::invocation`]).
//!
//! Signatures are not looked at: they prove nothing without the account's keys.

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
use super::invocation::{self, Asked, FIELD, Form};
use crate::access::Caller;
use crate::compat::sync::Call;
use crate::http::extract::read_body;
use crate::http::problem::ApiError;
use crate::state::AppState;

const VARIANT: HeaderName = HeaderName::from_static("x-amzn-invoked-production-variant");
const TARGET_VARIANT: &str = "x-amzn-sagemaker-target-variant";
const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");
const INFERENCE_ID: &str = "x-amzn-sagemaker-inference-id";
const STREAM_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-amzn-sagemaker-content-type");
/// The same in every attempt of a client at one call.
const CALL_ID: &str = "amz-sdk-invocation-id";
/// The variant that every endpoint has.
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
    let (call, asked) = read(state, caller, trace, &name, request).await?;
    let summaries = call.many(FIELD, asked.items, &asked.params).await?;
    Ok(with_headers(asked.form.answer(summaries), &headers))
}

/// `POST /endpoints/{name}/invocations-response-stream`: the same body in parts, each summary as soon as it and
/// those before it are there.
pub(crate) async fn invoke_stream(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, SageMakerError> {
    let headers = request.headers().clone();
    let (call, asked) = read(state, caller, trace, &name, request).await?;
    let form = asked.form;
    let prepared = call.prepare(FIELD, asked.items, &asked.params).await?;
    let frames = frames(form, call.in_order(prepared));
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

/// The frames of a stream: the parts of the body, and after a failure an exception instead of the rest.
fn frames(
    form: Form,
    summaries: impl Stream<Item = Result<String, ApiError>> + Send,
) -> impl Stream<Item = bytes::Bytes> + Send {
    let (begin, end) = match form {
        Form::Articles => ("[", "]"),
        Form::Table => ("{\"predictions\":[", "]}"),
    };
    let part = move |(index, summary): (usize, Result<String, ApiError>)| {
        let comma = if index == 0 { "" } else { "," };
        summary.map(|text| {
            let text = serde_json::Value::from(text);
            match form {
                Form::Articles => format!("{comma}{text}"),
                Form::Table => format!("{comma}{{\"summarization\":{text}}}"),
            }
        })
    };
    let parts = stream::once(future::ready(Ok(begin.to_owned())))
        .chain(summaries.enumerate().map(part))
        .chain(stream::once(future::ready(Ok(end.to_owned()))));
    // Nothing follows a failure.
    parts.scan(false, |failed, part| {
        let over = std::mem::replace(failed, part.is_err());
        future::ready((!over).then(|| match part {
            Ok(text) => event_stream::part(text),
            Err(error) => event_stream::exception(error),
        }))
    })
}

/// Finds the endpoint and reads the body.
async fn read(
    state: AppState,
    caller: Caller,
    trace: TraceContext,
    name: &str,
    request: Request,
) -> Result<(Call, Asked), SageMakerError> {
    let model = model_of(&state, name)?;
    let headers = request.headers().clone();
    let body = read_body(
        request,
        state.limits().max_body_bytes,
        state.http().body_timeout(),
    )
    .await?;
    let asked = invocation::read(&headers, &body)?;
    let notes = notes(name, &headers, state.limits());
    let call = Call::new(state, caller, trace, Channel::Sagemaker)
        .of_model(model)
        .noting(notes)
        .repeatable(text(&headers, CALL_ID).map(str::to_owned));
    Ok((call, asked))
}

/// The model behind an endpoint: the one of this name, if workers serve one, else the default model (none).
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

/// What stands in the results and rows of a call's jobs.
fn notes(endpoint: &str, headers: &HeaderMap, limits: &LimitsConfig) -> BTreeMap<String, String> {
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

/// The variant that was asked for, or the only one; the caller's attributes come back.
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
