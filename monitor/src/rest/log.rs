//! `POST /log/online` and `POST /log/batch`: predictions that were made elsewhere.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use futures::{StreamExt, TryStreamExt};
use precis_runtime::clock;
use precis_schemas::{ErrorCode, JobId};
use serde::Deserialize;

use super::external::{External, publish};
use super::guard::Caller;
use super::problem::Refused;
use super::state::Service;

/// Most predictions of one batch.
const MAX_BATCH: usize = 10_000;
/// Publishes on their way at a time.
const IN_FLIGHT: usize = 64;

fn other() -> String {
    "Other".into()
}

/// Body of `POST /log/online`. What else is in it is ignored, as the service that this one replaces did.
#[derive(Debug, Deserialize)]
pub(super) struct Online {
    article: String,
    summ: String,
    #[serde(default)]
    target: Option<String>,
    #[serde(default = "other")]
    model_source: String,
    /// Also to Arize, if the deployment forwards predictions there.
    #[serde(default)]
    send_arize: bool,
}

/// Body of `POST /log/batch`; see [`Online`].
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    articles: Vec<String>,
    summs: Vec<String>,
    #[serde(default)]
    targets: Option<Vec<Option<String>>>,
    #[serde(default = "other")]
    model_source: String,
    #[serde(default)]
    send_arize: bool,
}

/// Takes a prediction; `1` as soon as the stream has it.
pub(super) async fn online(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Online>, JsonRejection>,
) -> Result<Json<u8>, Refused> {
    let Json(body) = body?;
    let one = External {
        article: body.article,
        summary: body.summ,
        target: body.target,
        source: body.model_source,
        send_arize: body.send_arize,
    };
    one.validate("the prediction", &service.limits)?;
    publish(
        &service,
        &one.into_result(JobId::generate(), caller.tenant(), clock::now()),
    )
    .await?;
    Ok(Json(1))
}

/// Takes predictions: all of them or, when one can't be taken, none. `1` as soon as the stream has them.
pub(super) async fn batch(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Batch>, JsonRejection>,
) -> Result<Json<u8>, Refused> {
    let Json(body) = body?;
    let count = body.articles.len();
    if count > MAX_BATCH {
        return Err(Refused::new(
            ErrorCode::InvalidParameter,
            format!("there are {count} predictions; {MAX_BATCH} are allowed in one batch"),
        ));
    }
    // An empty list is as good as none.
    let targets = body.targets.filter(|targets| !targets.is_empty());
    let targets = targets.unwrap_or_else(|| vec![None; count]);
    if body.summs.len() != count || targets.len() != count {
        return Err(Refused::new(
            ErrorCode::InvalidParameter,
            format!(
                "there are {count} articles, {} summs and {} targets: they must be of equal number",
                body.summs.len(),
                targets.len()
            ),
        ));
    }
    let pairs = body.articles.into_iter().zip(body.summs).zip(targets);
    let all: Vec<External> = pairs
        .map(|((article, summary), target)| External {
            article,
            summary,
            target,
            source: body.model_source.clone(),
            send_arize: body.send_arize,
        })
        .collect();
    for (index, one) in all.iter().enumerate() {
        one.validate(&format!("prediction {index}"), &service.limits)?;
    }
    let at = clock::now();
    let results = all
        .into_iter()
        .map(|one| one.into_result(JobId::generate(), caller.tenant(), at));
    let service = &service;
    futures::stream::iter(results)
        .map(|result| async move { publish(service, &result).await })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(Json(1))
}
