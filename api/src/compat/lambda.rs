//! `POST /online-predict`, `/batch-predict` and `/score`: the routes of the Lambda function behind an API Gateway.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::HeaderMap;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::Channel;
use precis_scoring::RougeFmeasures;
use serde::Deserialize;

use super::legacy_params::{LegacyParams, generation_params};
use super::score::{self, Pairs};
use crate::access::Caller;
use crate::compat::sync_call::{Item, SyncCall};
use crate::gateway::state::AppState;
use crate::http::accept;
use crate::http::extract::JsonBody;
use crate::http::problem::ApiError;

/// Body of `POST /online-predict`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct One {
    article: String,
    #[serde(default, rename = "num_beans", alias = "num_beams")]
    beams: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
}

/// Body of `POST /batch-predict`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Many {
    articles: Vec<String>,
    #[serde(default, rename = "num_beans", alias = "num_beams")]
    beams: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
}

/// Body of `POST /score`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scored {
    articles: Vec<String>,
    targets: Vec<String>,
    #[serde(default, rename = "num_beans", alias = "num_beams")]
    beams: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
}

fn call(state: AppState, caller: Caller, trace: TraceContext) -> SyncCall {
    SyncCall::new(state, caller, trace, Channel::Lambda)
}

/// Summarizes an article. The response is plain text unless `Accept` names JSON: an API Gateway passes a handler's
/// string on without quotes, and clients expect that.
pub(crate) async fn online(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<One>,
) -> Result<Response, ApiError> {
    let params = generation_params(LegacyParams::from_fields(body.beams, body.temperature));
    let summary = call(state, caller, trace)
        .summarize(Item::from(body.article), params)
        .await?;
    Ok(if accept::weight(&headers, "application/json") > 0.0 {
        Json(summary).into_response()
    } else {
        summary.into_response()
    })
}

/// Summarizes several articles, in order.
pub(crate) async fn batch(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<Many>,
) -> Result<Json<Vec<String>>, ApiError> {
    let params = generation_params(LegacyParams::from_fields(body.beams, body.temperature));
    let items = body.articles.into_iter().map(Item::from).collect();
    call(state, caller, trace)
        .summarize_all("articles", items, &params)
        .await
        .map(Json)
}

/// Returns the mean ROUGE scores of the model's summaries.
pub(crate) async fn score(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<Scored>,
) -> Result<Json<RougeFmeasures>, ApiError> {
    let pairs = Pairs {
        articles: body.articles,
        targets: body.targets,
    };
    let params = LegacyParams::from_fields(body.beams, body.temperature);
    score::score_pairs(&call(state, caller, trace), pairs, params).await
}
