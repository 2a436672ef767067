//! `POST /db/init`, `GET /sample/pair`, `GET /sample/pairs`: sample data.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use precis_schemas::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::ProblemResponse;
use super::state::RestState;
use crate::samples::Pair;

/// Most pairs in one response.
const MAX_PAIRS: u32 = 1_000;

/// Sets up the schema, and loads the sample pairs and the sample history. Repeating it has no effect.
pub(super) async fn init(State(state): State<RestState>) -> Result<Json<Value>, ProblemResponse> {
    let stored = state.samples.load().await?;
    Ok(Json(
        json!({"samples": stored.pairs, "predictions": stored.predictions}),
    ))
}

async fn draw(state: &RestState, count: u32) -> Result<Vec<Pair>, ProblemResponse> {
    let query = state
        .database
        .client
        .query("SELECT ?fields FROM samples FINAL ORDER BY rand() LIMIT ?")
        .bind(count);
    let drawn = state
        .in_time(async { Ok(query.fetch_all::<Pair>().await?) })
        .await?;
    if drawn.is_empty() {
        return Err(ProblemResponse::new(
            ErrorCode::AnalyticsUnavailable,
            "no samples are loaded; load them with POST /db/init",
        ));
    }
    Ok(drawn)
}

/// Returns a random article with its reference.
pub(super) async fn pair(State(state): State<RestState>) -> Result<Json<Value>, ProblemResponse> {
    let drawn = draw(&state, 1).await?;
    let one = drawn
        .first()
        .map(|sample| json!({"article": sample.article, "summ": sample.summ}));
    Ok(Json(one.unwrap_or_default()))
}

/// Query of `GET /sample/pairs`.
#[derive(Debug, Deserialize)]
pub(super) struct PairsQuery {
    num_sample: Option<u32>,
}

/// Returns random articles with their references, at most as many as are loaded.
pub(super) async fn pairs(
    State(state): State<RestState>,
    query: Result<Query<PairsQuery>, QueryRejection>,
) -> Result<Json<Value>, ProblemResponse> {
    let Query(query) = query?;
    let count = query.num_sample.unwrap_or(10);
    if !(1..=MAX_PAIRS).contains(&count) {
        return Err(ProblemResponse::new(
            ErrorCode::InvalidParameter,
            format!("num_sample must be 1 to {MAX_PAIRS}"),
        ));
    }
    let drawn = draw(&state, count).await?;
    let (articles, summs): (Vec<String>, Vec<String>) = drawn
        .into_iter()
        .map(|sample| (sample.article, sample.summ))
        .unzip();
    Ok(Json(json!({"article": articles, "summ": summs})))
}
