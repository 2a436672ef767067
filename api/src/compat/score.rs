//! `POST /model/score`: scores the model's summaries of articles against references.
//!
//! Every article becomes a job with its target as the reference, so the monitor records the pair too. The gateway
//! computes the returned scores itself from the summaries.

use axum::extract::State;
use axum::{Extension, Json};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::Channel;
use precis_schemas::error_code::ErrorCode;
use precis_scoring::{Rouge, RougeFmeasures, mean};
use serde::Deserialize;

use super::legacy_params::{LegacyParams, generation_params};
use crate::access::Caller;
use crate::compat::sync_call::{Item, SyncCall};
use crate::gateway::state::AppState;
use crate::http::extract::JsonBody;
use crate::http::problem::ApiError;

/// Body of `POST /model/score`: `{"articles", "targets"}` or `{"pairs": {"articles", "targets"}}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    #[serde(default)]
    articles: Option<Vec<String>>,
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    pairs: Option<Pairs>,
    #[serde(default)]
    config: Option<LegacyParams>,
}

/// Articles with the references of their summaries.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pairs {
    /// The articles.
    pub(crate) articles: Vec<String>,
    /// The references, one for each article.
    pub(crate) targets: Vec<String>,
}

/// Returns the mean scores of pairs.
pub(crate) async fn score(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<Body>,
) -> Result<Json<RougeFmeasures>, ApiError> {
    let config = body.config;
    let (pairs, channel) = pairs_of(body)?;
    score_pairs(&SyncCall::new(state, caller, trace, channel), pairs, config).await
}

fn pairs_of(body: Body) -> Result<(Pairs, Channel), ApiError> {
    match (body.articles, body.targets, body.pairs) {
        (Some(articles), Some(targets), None) => Ok((Pairs { articles, targets }, Channel::Mlflow)),
        (None, None, Some(pairs)) => Ok((pairs, Channel::Local)),
        _ => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "send the lists `articles` and `targets`, either both at the top level or both in `pairs`",
        )),
    }
}

/// Returns the mean F-measures of the model's summaries of `pairs`, without stemming.
///
/// # Errors
/// If the lists are empty or differ in length, or a summary fails.
pub(crate) async fn score_pairs(
    call: &SyncCall,
    pairs: Pairs,
    params: Option<LegacyParams>,
) -> Result<Json<RougeFmeasures>, ApiError> {
    let Pairs { articles, targets } = pairs;
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidParameter, message));
    if articles.len() != targets.len() {
        let (articles, targets) = (articles.len(), targets.len());
        return invalid(format!(
            "articles: {articles}, targets: {targets}; each article needs one target"
        ));
    }
    if articles.is_empty() {
        return invalid("there are no pairs to score".to_owned());
    }
    let items = articles.into_iter().zip(&targets).map(|(text, target)| Item {
        text,
        reference: Some(target.clone()),
    });
    let params = generation_params(params);
    let summaries = call.summarize_all("articles", items.collect(), &params).await?;
    let scored = tokio::task::spawn_blocking(move || {
        let rouge = Rouge::default();
        let scores: Result<Vec<_>, _> = targets
            .iter()
            .zip(&summaries)
            .map(|(target, summary)| rouge.try_score(target, summary, Rouge::DEFAULT_LIMIT))
            .collect();
        scores.map(|scores| mean(&scores))
    })
    .await
    .map_err(|error| ApiError::internal(&format!("scoring failed: {error}")))?;
    match scored {
        Ok(Some(mean)) => Ok(Json(mean.fmeasures())),
        Ok(None) => Err(ApiError::internal("the pairs have no mean")),
        Err(too_long) => invalid(format!("targets: {too_long}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::parse;

    #[test]
    fn pairs_are_plain_or_nested() {
        let read = |body: &str| parse::<Body>(body.as_bytes()).and_then(pairs_of);
        let pairs = || Pairs {
            articles: vec!["a".into()],
            targets: vec!["b".into()],
        };
        assert_eq!(
            read(r#"{"articles":["a"],"targets":["b"]}"#),
            Ok((pairs(), Channel::Mlflow))
        );
        assert_eq!(
            read(r#"{"pairs":{"articles":["a"],"targets":["b"]},"config":{"num_beans":8}}"#),
            Ok((pairs(), Channel::Local))
        );
        for invalid in [
            r#"{}"#,
            r#"{"articles":["a"]}"#,
            r#"{"articles":["a"],"pairs":{"articles":["a"],"targets":["b"]}}"#,
            r#"{"pairs":{"articles":["a"]}}"#,
            r#"{"pairs":[["a","b"]]}"#,
        ] {
            assert!(read(invalid).is_err(), "{invalid}");
        }
    }
}
