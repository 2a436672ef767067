//! `POST /v1/scores` and `GET /v1/scores/{id}`: scores of each pair, and aggregated over all pairs.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::HeaderMap;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::batch::BatchRef;
use precis_schemas::error_code::ErrorCode;
use precis_schemas::rest::{
    Aggregate, Figures, JobView, PairScores, ScoreLinks, ScoreReport, SubmitScores, SubmitSummary,
};
use precis_schemas::scores::{RougeScore, Scores};
use precis_schemas::{Channel, JobHandle, JobId, Token};
use precis_scoring::{Bootstrap, RougeScores, interval, summarize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::summaries::{SubmitCall, views};
use crate::access::Caller;
use crate::gateway::state::AppState;
use crate::http::extract::{JsonBody, Query};
use crate::http::problem::ApiError;
use crate::jobs::group;
use crate::jobs::routes::{WaitQuery, wait_duration};
use crate::jobs::submit::{JobRequest, Scoring};
use crate::queue::CreateOutcome;

/// `POST /v1/scores`: scores pairs. Responds 200 with the report, or 202 with a partial one if the client stops
/// waiting.
///
/// Without a preference of the client it waits `api.sync_wait_seconds`, because the scores are the response.
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SubmitScores>,
) -> Result<Response, ApiError> {
    let default_wait = Duration::from_secs(state.api().sync_wait_seconds);
    let call = SubmitCall::read(&state, &caller, &headers, "/v1/scores", &body, default_wait)?;
    let jobs = call.submit(prepare(&state, &caller, body, &trace)).await?;
    let response = jobs.response();
    let batch = jobs
        .batch
        .ok_or_else(|| ApiError::internal("scores without a batch"))?;
    store_handles(&state, &caller, &batch, &jobs.handles).await;
    let report = report_of(&batch, jobs.views).await?;
    Ok(response.build(report.done, &report, Some(&report.links.this)))
}

/// Turns a body into validated submissions.
async fn prepare(
    state: &AppState,
    caller: &Caller,
    body: SubmitScores,
    trace: &TraceContext,
) -> Result<Vec<Submission>, ApiError> {
    group::check_count("pairs", body.pairs.len(), state.limits().max_batch_texts)?;
    let common = SubmitSummary {
        params: body.params,
        model: body.model,
        priority: body.priority,
        deadline: body.deadline,
        ttl_seconds: body.ttl_seconds,
        metadata: body.metadata,
        ..SubmitSummary::default()
    };
    for (index, pair) in body.pairs.iter().enumerate() {
        let problem = match (&pair.text, &pair.summary) {
            (Some(_), Some(_)) => "send either text or summary, not both",
            (None, None) => "both text and summary are missing; send one of them",
            _ => continue,
        };
        let message = format!("pairs[{index}]: {problem}");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let batch = BatchRef::all(&JobId::generate(), body.pairs.len() as u64);
    let requests = batch.zip(body.pairs).map(|(position, pair)| JobRequest {
        scoring: Some(Scoring {
            summary: pair.summary,
            stemmed: body.stemmed,
        }),
        id: position.job_id(),
        batch: Some(position),
        ..JobRequest::of(
            Channel::Api,
            SubmitSummary {
                text: pair.text,
                reference: Some(pair.reference),
                ..common.clone()
            },
        )
    });
    group::prepare(state, caller, "pairs", requests, trace).await
}

/// The name of a batch's record. It contains the tenant, so that no other tenant finds the batch.
fn record_name(tenant: &Token, batch: &JobId) -> Token {
    let mut hasher = Sha256::new();
    for part in ["scores", tenant.as_str(), batch.as_str()] {
        hasher.update(part);
        // No part contains this byte, so it separates them.
        hasher.update([0]);
    }
    let digits: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Token::sanitized(&digits)
}

/// Stores the handles of a batch for `GET /v1/scores/{id}`. A failure is only logged: this response is complete anyway,
/// and each job can be looked up.
async fn store_handles(state: &AppState, caller: &Caller, batch: &JobId, handles: &[JobHandle]) {
    let handles: Vec<String> = handles.iter().map(JobHandle::to_string).collect();
    // A list of strings always serializes.
    let body = serde_json::to_vec(&handles).unwrap_or_default();
    let name = record_name(caller.tenant(), batch);
    match state.queue().create_record(&name, body.into()).await {
        Ok(CreateOutcome::Created(_) | CreateOutcome::Exists(_)) => {}
        Err(refusal) => tracing::warn!(%batch, %refusal, "could not store the handles of a batch of scores"),
    }
}

/// Computes the report of a batch on a blocking thread: the bootstrap draws a thousand samples.
async fn report_of(batch: &JobId, views: Vec<JobView>) -> Result<ScoreReport, ApiError> {
    let batch = batch.clone();
    tokio::task::spawn_blocking(move || report(&batch, views))
        .await
        .map_err(|error| ApiError::internal(&format!("a report: {error}")))
}

/// `GET /v1/scores/{id}`: returns the report of a batch, and may wait for its end.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<ScoreReport>, ApiError> {
    let batch: JobId = id
        .parse()
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the id in the path: {error}")))?;
    let until = Instant::now() + wait_duration(&query, state.limits())?;
    let name = record_name(caller.tenant(), &batch);
    let Some(record) = state.queue().record(&name).await? else {
        return Err(ApiError::new(
            ErrorCode::JobNotFound,
            format!("there is no batch of scores `{batch}`, or it is no longer kept"),
        ));
    };
    let malformed = |error: &dyn std::fmt::Display| ApiError::internal(&format!("batch {batch}: {error}"));
    let handles: Vec<String> = serde_json::from_slice(&record.body).map_err(|error| malformed(&error))?;
    let handles: Result<Vec<JobHandle>, _> = handles.iter().map(|handle| handle.parse()).collect();
    let handles = handles.map_err(|error| malformed(&error))?;
    let views = views(&state, &caller, &handles, until).await?;
    report_of(&batch, views).await.map(Json)
}

/// The report of a batch with these pairs.
fn report(id: &JobId, views: Vec<JobView>) -> ScoreReport {
    let done = views.iter().all(|view| view.status.is_final());
    let pairs: Vec<PairScores> = views.into_iter().map(pair).collect();
    let scores: Vec<Scores> = pairs.iter().filter_map(|pair| pair.scores).collect();
    ScoreReport {
        links: ScoreLinks {
            this: format!("/v1/scores/{id}"),
        },
        id: id.clone(),
        done,
        pairs,
        aggregate: aggregate(&scores),
    }
}

fn pair(view: JobView) -> PairScores {
    PairScores {
        job_id: view.id,
        status: view.status,
        scores: view.scores,
        summary: view.summary,
        error: view.error,
    }
}

fn aggregate(scores: &[Scores]) -> Option<Aggregate> {
    let bootstrap = Bootstrap::default();
    let rouge: Vec<RougeScores> = scores.iter().map(rouge_of).collect();
    let bleu: Vec<f64> = scores.iter().map(|scores| scores.bleu).collect();
    let rouge = summarize(&rouge, &bootstrap)?;
    let bleu = interval(&bleu, &bootstrap)?;
    Some(Aggregate {
        count: rouge.count,
        mean: figures(&rouge.mean, bleu.mean),
        low: figures(&rouge.low, bleu.low),
        high: figures(&rouge.high, bleu.high),
        confidence: bootstrap.confidence,
        resamples: bootstrap.resamples,
    })
}

fn rouge_of(scores: &Scores) -> RougeScores {
    let prf = |prf: RougeScore| precis_scoring::Prf {
        precision: prf.precision,
        recall: prf.recall,
        fmeasure: prf.fmeasure,
    };
    RougeScores {
        rouge1: prf(scores.rouge1),
        rouge2: prf(scores.rouge2),
        rouge_l: prf(scores.rouge_l),
        rouge_lsum: prf(scores.rouge_lsum),
    }
}

fn figures(rouge: &RougeScores, bleu: f64) -> Figures {
    let prf = |prf: precis_scoring::Prf| RougeScore {
        precision: prf.precision,
        recall: prf.recall,
        fmeasure: prf.fmeasure,
    };
    Figures {
        rouge1: prf(rouge.rouge1),
        rouge2: prf(rouge.rouge2),
        rouge_l: prf(rouge.rouge_l),
        rouge_lsum: prf(rouge.rouge_lsum),
        bleu,
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::{JobResult, Outcome};

    use super::*;
    use crate::jobs::view;
    use crate::testing::result;

    fn scored(fmeasure: f64, bleu: f64) -> JobView {
        let rouge1 = RougeScore {
            fmeasure,
            ..RougeScore::default()
        };
        view::ended(JobResult {
            scores: Some(Scores {
                rouge1,
                bleu,
                ..Scores::default()
            }),
            ..result("a", 7)
        })
    }

    #[test]
    fn means_cover_the_pairs_that_have_scores() {
        let failed = view::ended(JobResult {
            outcome: Outcome::Failed,
            summary: None,
            ..result("b", 8)
        });
        let views = vec![scored(0.2, 10.0), failed.clone(), scored(0.4, 30.0)];
        let shown = report(&"batch".parse().unwrap(), views);
        let aggregate = shown.aggregate.unwrap();
        assert_eq!((shown.done, aggregate.count), (true, 2));
        assert!((aggregate.mean.rouge1.fmeasure - 0.3).abs() < 1e-12);
        assert!((aggregate.mean.bleu - 20.0).abs() < 1e-12);
        assert_eq!((aggregate.low.bleu, aggregate.high.bleu), (10.0, 30.0));
        assert_eq!(shown.links.this, "/v1/scores/batch");
        let none = report(&"batch".parse().unwrap(), vec![failed]);
        assert_eq!(none.aggregate, None);
    }

    #[test]
    fn the_figures_of_a_pair_are_next_to_its_status() {
        let pair = pair(scored(0.5, 1.0));
        let written = serde_json::to_value(&pair).unwrap();
        assert_eq!(written["rouge1"]["fmeasure"], 0.5);
        assert_eq!(written["status"], "succeeded");
        assert_eq!(serde_json::from_value::<PairScores>(written).unwrap(), pair);
    }
}
