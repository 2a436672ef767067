//! Stage 5: generates the summary.
//!
//! The request joins the engine's decoding batch. It leaves the batch when it is finished, when its deadline passes,
//! when its client cancels it, or when a stopping worker runs out of time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use precis_engine::{Engine, Generated, RowError};
use precis_runtime::clock::{self, Instant};
use precis_schemas::Job;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::time;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::decode;
use super::generation::complete;
use super::long_text::{ChunkStats, map_reduce};
use super::request::ModelRequest;

/// How inference ended.
#[derive(Debug)]
pub enum InferenceOutcome {
    /// The model generated a summary.
    Generated(Box<Generated>),
    /// The deadline passed.
    Expired(Refusal),
    /// The client cancelled the job.
    Cancelled(Refusal),
    /// The worker stops before the job is finished.
    Interrupted(Refusal),
    /// The model failed on the job. A retry may succeed.
    Failed(Refusal),
    /// The request is invalid. A retry can't succeed.
    Invalid(Refusal),
}

/// What inference produced.
#[derive(Debug)]
pub struct Inference {
    /// How it ended.
    pub outcome: InferenceOutcome,
    /// When the engine got the job.
    pub submitted_at: Timestamp,
    /// When the engine began with it. `None` if it ended before.
    pub started_at: Option<Timestamp>,
    /// Set if the text was summarized in chunks.
    pub chunks: Option<ChunkStats>,
}

/// The signals that end inference early.
#[derive(Debug, Clone, Default)]
pub struct StopSignals {
    /// Cancelled when a stopping worker must give up its running jobs.
    pub drain_deadline: CancellationToken,
    /// Cancelled when the client cancels the job.
    pub cancelled: CancellationToken,
    /// Cancelled when the job has made no progress for so long that another worker may get it.
    pub lapsed: CancellationToken,
}

/// Runs the model on a request. `progress` receives the tokens so far.
pub async fn infer(
    engine: &Arc<Engine>,
    job: &Job,
    request: &ModelRequest,
    stop: &StopSignals,
    progress: mpsc::Sender<Arc<[u32]>>,
) -> Inference {
    let submitted_at = clock::now();
    let (mut started_at, mut chunks) = (None, None);
    let work = async {
        match &request.long_text {
            Some(long_text) => {
                started_at = Some(submitted_at);
                let (generated, stats) = map_reduce(engine, long_text.clone(), &progress).await?;
                chunks = Some(stats);
                Ok(generated)
            }
            None => {
                let started = || started_at = Some(clock::now());
                complete(engine.submit(&request.generate)?, &progress, started).await
            }
        }
    };
    let outcome = until_stopped(job, stop, work).await;
    Inference {
        outcome,
        submitted_at,
        started_at,
        chunks,
    }
}

/// Waits for `work` or the first stop signal. Dropping `work` takes its requests out of the engine; work on a job that
/// was cancelled before it started is never polled.
async fn until_stopped(
    job: &Job,
    stop: &StopSignals,
    work: impl Future<Output = Result<Box<Generated>, RowError>>,
) -> InferenceOutcome {
    let cancelled = || {
        InferenceOutcome::Cancelled(Refusal::new(
            ErrorCode::Cancelled,
            "the client cancelled the job while it was running",
        ))
    };
    let interrupted = || {
        InferenceOutcome::Interrupted(Refusal::new(
            ErrorCode::QueueUnavailable,
            "the process stopped before the job was finished",
        ))
    };
    if stop.cancelled.is_cancelled() {
        return cancelled();
    }
    let deadline = async {
        match job.deadline {
            Some(deadline) => tokio::time::sleep_until(instant_of(deadline)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // A finished summary counts even if its deadline passes at the same moment.
        biased;
        result = work => match result {
            Ok(generated) => InferenceOutcome::Generated(generated),
            Err(error) => outcome_of(error),
        },
        () = stop.cancelled.cancelled() => cancelled(),
        () = stop.drain_deadline.cancelled() => interrupted(),
        () = stop.lapsed.cancelled() => InferenceOutcome::Failed(Refusal::new(
            ErrorCode::InferenceFailed,
            "the model made no progress on the job",
        )),
        () = deadline => match decode::expired(job, clock::now().max(job.deadline.unwrap_or_default())) {
            Some(refusal) => InferenceOutcome::Expired(refusal),
            None => interrupted(),
        },
    }
}

/// Converts a deadline to the clock that timers use.
fn instant_of(deadline: Timestamp) -> Instant {
    let left = time::millis_between(clock::now(), deadline).max(0.0);
    Instant::now() + Duration::from_secs_f64((left / 1e3).min(1e9))
}

fn outcome_of(error: RowError) -> InferenceOutcome {
    match error {
        RowError::Params(error) => InferenceOutcome::Invalid(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("params: {error}"),
        )),
        RowError::EmptyInput => {
            InferenceOutcome::Invalid(Refusal::new(ErrorCode::EmptyText, error.to_string()))
        }
        error => InferenceOutcome::Failed(Refusal::new(ErrorCode::InferenceFailed, error.to_string())),
    }
}

#[cfg(test)]
mod tests;
