//! `POST /invocations`, a path that MLflow's scoring server and SageMaker containers share.
//!
//! The body tells them apart. An object with `articles` is for the container, which returns a list of summaries. All
//! other bodies are MLflow's, with its responses and errors.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::HeaderMap;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::{Channel, GenerationParams};
use serde::Deserialize;
use serde_json::Value;

use super::legacy_params::{LegacyParams, generation_params};
use super::mlflow::error::MlflowError;
use super::mlflow::{Predictions, csv_table, table};
use crate::access::Caller;
use crate::compat::sync_call::{Item, SyncCall};
use crate::gateway::state::AppState;
use crate::http::charset;
use crate::http::extract::{self, read_body};
use crate::http::media_type::MediaType;
use crate::http::problem::ApiError;

/// Name of the list of texts, for error messages.
pub(crate) const FIELD: &str = "articles";

/// A parsed body.
#[derive(Debug, PartialEq)]
pub(crate) struct Invocation {
    /// The texts.
    pub(crate) items: Vec<Item>,
    /// The generation parameters.
    pub(crate) params: GenerationParams,
    /// The format of the request, and thus of its response.
    pub(crate) format: BodyFormat,
}

/// The format of a request and its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    /// The SageMaker container's: a list of texts for `{"articles": […]}`.
    List,
    /// MLflow's: `{"predictions": […]}` for a table.
    Table,
}

/// An error in the format of the request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InvocationError {
    /// A problem, for the container's format.
    Problem(ApiError),
    /// An error of MLflow's server.
    Mlflow(MlflowError),
}

/// A body in the container's format.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Articles {
    articles: Vec<String>,
    #[serde(default, rename = "num_beans", alias = "num_beams")]
    beams: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
}

/// `POST /invocations`.
pub(crate) async fn invoke(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    request: Request,
) -> Result<Response, InvocationError> {
    let headers = request.headers().clone();
    check_media_type(&headers).map_err(InvocationError::Mlflow)?;
    let body = read_body(request, state.limits().body_bytes(), state.http().body_timeout())
        .await
        .map_err(|error| InvocationError::Mlflow(error.into()))?;
    let invocation = parse(&headers, &body)?;
    let channel = match invocation.format {
        BodyFormat::List => Channel::Sagemaker,
        BodyFormat::Table => Channel::Mlflow,
    };
    let call = SyncCall::new(state, caller, trace, channel);
    let summaries = call
        .summarize_all(FIELD, invocation.items, &invocation.params)
        .await;
    summaries
        .map(|summaries| invocation.format.response(summaries))
        .map_err(|error| invocation.format.error(error))
}

impl BodyFormat {
    /// Returns the response with these summaries.
    pub(crate) fn response(self, summaries: Vec<String>) -> Response {
        match self {
            Self::List => Json(summaries).into_response(),
            Self::Table => Json(Predictions::new(summaries)).into_response(),
        }
    }

    /// Returns an error in this format.
    fn error(self, error: ApiError) -> InvocationError {
        match self {
            Self::List => InvocationError::Problem(error),
            Self::Table => InvocationError::Mlflow(error.into()),
        }
    }
}

impl IntoResponse for InvocationError {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(error) => error.into_response(),
            Self::Mlflow(error) => error.into_response(),
        }
    }
}

fn essence(headers: &HeaderMap) -> String {
    MediaType::of(headers).map(MediaType::essence).unwrap_or_default()
}

/// Accepts JSON and CSV, with no parameter but the character set.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), MlflowError> {
    let essence = essence(headers);
    if !matches!(essence.as_str(), "application/json" | "text/csv") {
        return Err(MlflowError::media_type(&essence));
    }
    let mut parameters = MediaType::of(headers).into_iter().flat_map(MediaType::parameters);
    match parameters.find(|(name, _)| !name.eq_ignore_ascii_case("charset")) {
        Some((name, _)) => Err(MlflowError::media_type_parameter(name)),
        None => Ok(()),
    }
}

/// Parses a body: CSV if the content type says so, else JSON in either format.
///
/// # Errors
/// If the body is invalid. The error has the body's format.
pub(crate) fn parse(headers: &HeaderMap, body: &Bytes) -> Result<Invocation, InvocationError> {
    if let Some(media_type) = MediaType::of(headers)
        && media_type.essence() == "text/csv"
    {
        let charset = charset::declared(media_type).map_err(|_| {
            InvocationError::Mlflow(MlflowError::MediaType(
                "The scoring server only supports UTF-8".into(),
            ))
        })?;
        return from_table(csv_table::from_csv(body, charset));
    }
    let value = table::parse_json(body).map_err(InvocationError::Mlflow)?;
    match &value {
        Value::Object(object) if object.contains_key("articles") && !table::is_table(object) => {}
        _ => return from_table(table::from_json(value)),
    }
    // Parses the text again: these errors have a position.
    let body: Articles = extract::parse(body).map_err(InvocationError::Problem)?;
    Ok(Invocation {
        items: body.articles.into_iter().map(Item::from).collect(),
        params: generation_params(LegacyParams::from_fields(body.beams, body.temperature)),
        format: BodyFormat::List,
    })
}

fn from_table(table: Result<table::Table, MlflowError>) -> Result<Invocation, InvocationError> {
    let table = table.map_err(InvocationError::Mlflow)?;
    Ok(Invocation {
        items: table.articles.into_iter().map(Item::from).collect(),
        params: table.params,
        format: BodyFormat::Table,
    })
}
