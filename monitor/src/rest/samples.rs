//! `POST /db/init`, `GET /sample/pair`, `GET /sample/pairs`: sample data.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use clickhouse::Row;
use jiff::{SignedDuration, Timestamp};
use precis_runtime::clock;
use precis_schemas::{ErrorCode, JobId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::external::{ExternalPrediction, publish};
use super::guard::Caller;
use super::problem::ProblemResponse;
use super::state::RestState;
use crate::database::migrate;

const ARTICLES: &str = include_str!("../../../samples/articles.jsonl");
/// Most pairs in one response.
const MAX_PAIRS: u32 = 1_000;
/// Hours between two predictions of the sample history.
const HISTORY_STEP_HOURS: i64 = 3;

#[derive(Debug, Deserialize)]
struct Article {
    id: String,
    article: String,
    reference: String,
}

#[derive(Debug, Row, Serialize, Deserialize)]
struct Sample {
    sample_id: String,
    article: String,
    summ: String,
}

fn articles() -> Vec<Article> {
    // The file is compiled in; the test below finds unreadable lines.
    ARTICLES
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Sets up the schema, and loads the sample pairs and a sample history: the first sentence of each article as its
/// summary, over the past days. Repeating it has no effect.
pub(super) async fn init(
    State(state): State<RestState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ProblemResponse> {
    migrate(&state.database, &state.clickhouse)
        .await
        .map_err(|error| {
            tracing::warn!(%error, "schema not set up");
            ProblemResponse::new(
                ErrorCode::AnalyticsUnavailable,
                "the analytics database is unavailable; try again later",
            )
        })?;
    let articles = articles();
    let known = state.in_time(load(&state, &articles)).await?;
    let history = if known == 0 {
        history(&articles, clock::now())
    } else {
        vec![]
    };
    for (id, one, at) in &history {
        publish(&state, &one.clone().into_result(id.clone(), caller.tenant(), *at)).await?;
    }
    Ok(Json(
        json!({"samples": articles.len(), "predictions": history.len()}),
    ))
}

/// Stores the sample pairs. Returns how many predictions of the sample history are stored.
async fn load(state: &RestState, articles: &[Article]) -> Result<u64, ProblemResponse> {
    let mut insert = state.database.client.insert::<Sample>("samples").await?;
    for article in articles {
        insert
            .write(&Sample {
                sample_id: article.id.clone(),
                article: article.article.clone(),
                summ: article.reference.clone(),
            })
            .await?;
    }
    insert.end().await?;
    let known = state
        .database
        .client
        .query("SELECT count() FROM prediction_versions WHERE startsWith(job_id, 'sample-')")
        .fetch_one()
        .await?;
    Ok(known)
}

/// Returns the sample history. The ids are fixed, so a concurrent second call stores nothing.
fn history(articles: &[Article], now: Timestamp) -> Vec<(JobId, ExternalPrediction, Timestamp)> {
    let one = |(index, article): (usize, &Article)| {
        let id = format!("sample-{index}").parse().ok()?;
        let back = SignedDuration::from_hours(HISTORY_STEP_HOURS * (index as i64 + 1));
        let at = now.checked_sub(back).ok()?;
        let external = ExternalPrediction {
            article: article.article.clone(),
            summary: precis_scoring::first_sentence(&article.article).to_owned(),
            target: Some(article.reference.clone()),
            source: "Other".into(),
            send_arize: false,
        };
        Some((id, external, at))
    };
    articles.iter().enumerate().filter_map(one).collect()
}

async fn draw(state: &RestState, count: u32) -> Result<Vec<Sample>, ProblemResponse> {
    let query = state
        .database
        .client
        .query("SELECT ?fields FROM samples FINAL ORDER BY rand() LIMIT ?")
        .bind(count);
    let drawn = state
        .in_time(async { Ok(query.fetch_all::<Sample>().await?) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_readable_and_part_of_the_history() {
        let articles = articles();
        assert_eq!(articles.len(), ARTICLES.lines().count());
        let history = history(&articles, clock::now());
        assert_eq!(history.len(), articles.len());
        assert!(history.iter().all(|(_, one, _)| !one.summary.is_empty()));
    }
}
