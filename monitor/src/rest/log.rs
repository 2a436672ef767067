//! `POST /log/online` and `POST /log/batch`: log predictions made elsewhere.

use axum::extract::State;
use axum::{Extension, Json};
use futures::{StreamExt, TryStreamExt};
use precis_runtime::clock;
use precis_schemas::{ErrorCode, JobId};
use serde::Deserialize;

use super::body::JsonBody;
use super::external::{ExternalPrediction, publish};
use super::guard::Caller;
use super::problem::ProblemResponse;
use super::state::RestState;

/// Most predictions in one batch.
const MAX_BATCH: usize = 10_000;
/// Most concurrent publishes.
const PUBLISH_CONCURRENCY: usize = 64;

fn default_source() -> String {
    "Other".into()
}

/// Body of `POST /log/online`. Unknown fields are ignored, as in the service that this one replaces.
#[derive(Debug, Deserialize)]
pub(super) struct OnlineBody {
    article: String,
    summ: String,
    #[serde(default)]
    target: Option<String>,
    #[serde(default = "default_source")]
    model_source: String,
    /// Forward to Arize, if that is configured.
    #[serde(default)]
    send_arize: bool,
}

/// Body of `POST /log/batch`; see [`OnlineBody`].
#[derive(Debug, Deserialize)]
pub(super) struct BatchBody {
    articles: Vec<String>,
    summs: Vec<String>,
    #[serde(default)]
    targets: Option<Vec<Option<String>>>,
    #[serde(default = "default_source")]
    model_source: String,
    #[serde(default)]
    send_arize: bool,
}

/// Logs a prediction. Returns `1` once the stream has it.
pub(super) async fn online(
    State(state): State<RestState>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody<OnlineBody>,
) -> Result<Json<u8>, ProblemResponse> {
    let one = ExternalPrediction {
        article: body.article,
        summary: body.summ,
        target: body.target,
        source: body.model_source,
        send_arize: body.send_arize,
    };
    one.validate("the prediction", &state.limits)?;
    publish(
        &state,
        &one.into_result(JobId::generate(), caller.tenant(), clock::now()),
    )
    .await?;
    Ok(Json(1))
}

/// Logs all predictions, or none if one is invalid. Returns `1` once the stream has them.
pub(super) async fn batch(
    State(state): State<RestState>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody<BatchBody>,
) -> Result<Json<u8>, ProblemResponse> {
    let count = body.articles.len();
    if count > MAX_BATCH {
        return Err(ProblemResponse::new(
            ErrorCode::InvalidParameter,
            format!("there are {count} predictions; {MAX_BATCH} are allowed in one batch"),
        ));
    }
    // An empty list means no targets.
    let targets = body.targets.filter(|targets| !targets.is_empty());
    let targets = targets.unwrap_or_else(|| vec![None; count]);
    if body.summs.len() != count || targets.len() != count {
        return Err(ProblemResponse::new(
            ErrorCode::InvalidParameter,
            format!(
                "there are {count} articles, {} summs and {} targets: their numbers must be equal",
                body.summs.len(),
                targets.len()
            ),
        ));
    }
    let pairs = body.articles.into_iter().zip(body.summs).zip(targets);
    let all: Vec<ExternalPrediction> = pairs
        .map(|((article, summary), target)| ExternalPrediction {
            article,
            summary,
            target,
            source: body.model_source.clone(),
            send_arize: body.send_arize,
        })
        .collect();
    for (index, one) in all.iter().enumerate() {
        one.validate(&format!("prediction {index}"), &state.limits)?;
    }
    let at = clock::now();
    let results = all
        .into_iter()
        .map(|one| one.into_result(JobId::generate(), caller.tenant(), at));
    let state = &state;
    futures::stream::iter(results)
        .map(|result| async move { publish(state, &result).await })
        .buffer_unordered(PUBLISH_CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(Json(1))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::{FromRequest, Request};
    use axum::response::IntoResponse;

    use super::*;

    async fn read(content_type: &str, body: &'static str) -> Result<OnlineBody, u16> {
        let request = Request::post("/log/online").header("content-type", content_type);
        let request = request.body(Body::from(body)).unwrap();
        match JsonBody::from_request(request, &()).await {
            Ok(JsonBody(body)) => Ok(body),
            Err(problem) => Err(problem.into_response().status().as_u16()),
        }
    }

    #[tokio::test]
    async fn a_prediction_is_an_object_without_repeated_fields() {
        let json = "application/json; charset=utf8";
        let body = read(json, r#"{"article":"It rained.","summ":"Rain.","more":[1]}"#).await;
        assert_eq!(body.unwrap().model_source, "Other");
        for (content_type, body, status) in [
            (json, r#"["It rained.","Rain."]"#, 400),
            (
                json,
                r#"{"article":"It rained.","article":"It snowed.","summ":"Rain."}"#,
                400,
            ),
            (json, r#"{"article":"It rained."}"#, 400),
            (json, "{}x", 400),
            ("text/plain", "{}", 415),
        ] {
            assert_eq!(read(content_type, body).await.unwrap_err(), status, "{body}");
        }
    }
}
