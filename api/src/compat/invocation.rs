//! `POST /invocations`: MLflow's scoring server and a SageMaker container have the same path. What the body is
//! tells them apart: an object with `articles` is for the container and is answered with a list of summaries;
//! everything else is MLflow's, answers and errors included.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::HeaderMap;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::{Channel, GenerationParams};
use serde::Deserialize;
use serde_json::Value;

use super::knobs::{Knobs, params};
use super::mlflow::error::MlflowError;
use super::mlflow::{Predictions, frame};
use crate::access::Caller;
use crate::compat::sync::{Call, Item};
use crate::http::extract::{self, read_body};
use crate::http::media_type::MediaType;
use crate::http::problem::ApiError;
use crate::state::AppState;

/// Name of the texts in messages.
pub(crate) const FIELD: &str = "articles";

/// What a body asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    /// The texts.
    pub(crate) items: Vec<Item>,
    /// How to generate.
    pub(crate) params: GenerationParams,
    /// How the answer looks.
    pub(crate) form: Form,
}

/// The two forms of a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `{"articles": […]}`, answered with a list of texts.
    Articles,
    /// A table, answered with `{"predictions": […]}`.
    Table,
}

/// Why there is no answer, in the words of the form that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As a problem.
    Articles(ApiError),
    /// As MLflow says it.
    Table(MlflowError),
}

/// Body of the container's form.
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
) -> Result<Response, Refused> {
    let headers = request.headers().clone();
    check_media_type(&headers).map_err(Refused::Table)?;
    let body = read_body(
        request,
        state.limits().max_body_bytes,
        state.http().body_timeout(),
    )
    .await
    .map_err(|error| Refused::Table(error.into()))?;
    let asked = read(&headers, &body)?;
    let channel = match asked.form {
        Form::Articles => Channel::Sagemaker,
        Form::Table => Channel::Mlflow,
    };
    let call = Call::new(state, caller, trace, channel);
    let summaries = call.many(FIELD, asked.items, &asked.params).await;
    summaries
        .map(|summaries| asked.form.answer(summaries))
        .map_err(|error| asked.form.refused(error))
}

impl Form {
    /// The summaries in this form.
    pub(crate) fn answer(self, summaries: Vec<String>) -> Response {
        match self {
            Self::Articles => Json(summaries).into_response(),
            Self::Table => Json(Predictions::of(summaries)).into_response(),
        }
    }

    /// A refusal in the words of this form.
    pub(crate) fn refused(self, error: ApiError) -> Refused {
        match self {
            Self::Articles => Refused::Articles(error),
            Self::Table => Refused::Table(error.into()),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Articles(error) => error.into_response(),
            Self::Table(refusal) => refusal.into_response(),
        }
    }
}

fn essence(headers: &HeaderMap) -> String {
    MediaType::of(headers).map(MediaType::essence).unwrap_or_default()
}

/// JSON or CSV, with no other parameter than `charset=utf-8`.
fn check_media_type(headers: &HeaderMap) -> Result<(), MlflowError> {
    let essence = essence(headers);
    if !matches!(essence.as_str(), "application/json" | "text/csv") {
        return Err(MlflowError::media_type(&essence));
    }
    let parameters = MediaType::of(headers).into_iter().flat_map(MediaType::parameters);
    for (name, value) in parameters {
        if !name.eq_ignore_ascii_case("charset") {
            return Err(MlflowError::media_type_parameter(name));
        }
        let value = value.unwrap_or_default();
        if !value.eq_ignore_ascii_case("utf-8") {
            return Err(MlflowError::MediaType(format!(
                "The character set must be utf-8. Got '{value}'."
            )));
        }
    }
    Ok(())
}

/// Reads a body: CSV if its content type says so, else JSON in either form.
pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Asked, Refused> {
    if essence(headers) == "text/csv" {
        return of_table(frame::of_csv(body));
    }
    let value = frame::json(body).map_err(Refused::Table)?;
    match &value {
        Value::Object(object) if object.contains_key("articles") && !frame::is_one(object) => {}
        _ => return of_table(frame::of_json(value)),
    }
    // Read once more from the text, for messages that say where.
    let whole: Articles = extract::parse(body).map_err(Refused::Articles)?;
    Ok(Asked {
        items: whole.articles.into_iter().map(Item::from).collect(),
        params: params(Knobs::among(whole.beams, whole.temperature)),
        form: Form::Articles,
    })
}

fn of_table(table: Result<frame::Table, MlflowError>) -> Result<Asked, Refused> {
    let table = table.map_err(Refused::Table)?;
    Ok(Asked {
        items: table.articles.into_iter().map(Item::from).collect(),
        params: table.params,
        form: Form::Table,
    })
}
