//! Stage 5: run the model on a batch, on a thread of its own.
//!
//! Between decoding steps every row's deadline is checked, and whether the worker must hurry: such rows
//! leave the batch. A batch that fails as a whole is split in halves until the row that breaks it is
//! alone, so that a bad job hurts nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use precis_engine::{BatchObserver, Engine, GenerateRequest, Generated, RowDecision, RowError};
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::time;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Row};
use super::decode;
use crate::metrics;

/// How a row ended.
pub enum RowOutcome {
    /// There is a summary.
    Done(Box<Generated>),
    /// Its deadline passed.
    Expired(Refusal),
    /// The worker is going away and can't finish it.
    HandBack,
    /// The model failed on it: it may be tried again, here or elsewhere.
    Failed(Refusal),
    /// It can never succeed.
    Refused(Refusal),
}

/// A row and how it ended.
pub struct Inferred {
    /// The row.
    pub row: Row,
    /// How it ended.
    pub outcome: RowOutcome,
    /// When its batch was begun.
    pub batch_began_at: Timestamp,
    /// Jobs in its batch.
    pub batch_size: usize,
}

/// Why a row was taken out between two steps.
#[derive(Clone)]
enum Left {
    Expired(Refusal),
    HandBack,
}

/// Watches the rows of a batch while it is decoded.
struct Watch<'a> {
    rows: &'a [&'a Row],
    hurry: &'a CancellationToken,
    left: Vec<Option<Left>>,
    step: usize,
    now: Timestamp,
}

impl BatchObserver for Watch<'_> {
    fn keep(&mut self, row: usize, step: usize, _tokens: &[u32]) -> RowDecision {
        // The clock is read once a step, not once a row and step.
        if step != self.step {
            (self.step, self.now) = (step, time::now());
        }
        let left = if self.hurry.is_cancelled() {
            Left::HandBack
        } else if let Some(refusal) = decode::expired(&self.rows[row].tokenized.accepted.job, self.now) {
            Left::Expired(refusal)
        } else {
            return RowDecision::Continue;
        };
        self.left[row] = Some(left);
        RowDecision::Cancel("taken out by the worker".into())
    }
}

/// Runs a batch. `hurry` is cancelled when the worker must give up what it has begun.
pub async fn infer(engine: Arc<Engine>, batch: Batch, hurry: CancellationToken) -> Vec<Inferred> {
    let batch_began_at = time::now();
    let batch_size = batch.len();
    let rows = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let outcomes = {
            let rows: Vec<&Row> = batch.rows.iter().collect();
            run(&engine, &rows, &hurry)
        };
        metrics::batch(batch_size, begun.elapsed().as_secs_f64());
        batch.rows.into_iter().zip(outcomes).collect::<Vec<_>>()
    });
    match rows.await {
        Ok(rows) => rows
            .into_iter()
            .map(|(row, outcome)| Inferred {
                row,
                outcome,
                batch_began_at,
                batch_size,
            })
            .collect(),
        Err(error) => {
            // Only a defect of this file gets here, since panics of the engine are caught below. The
            // jobs' leases are gone with the thread, so they are delivered again.
            tracing::error!(%error, "a batch was lost; its jobs are delivered again");
            Vec::new()
        }
    }
}

fn run(engine: &Engine, rows: &[&Row], hurry: &CancellationToken) -> Vec<RowOutcome> {
    let mut watch = Watch {
        rows,
        hurry,
        left: vec![None; rows.len()],
        step: usize::MAX,
        now: time::now(),
    };
    let requests: Vec<GenerateRequest> = rows.iter().map(|row| row.request.clone()).collect();
    let outcome = catch_unwind(AssertUnwindSafe(|| engine.generate_batch(&requests, &mut watch)));
    let results = match outcome {
        Ok(results) if results.len() == rows.len() => results,
        Ok(results) => {
            let lost = RowError::Compute(format!("{} results for {} rows", results.len(), rows.len()));
            rows.iter().map(|_| Err(lost.clone())).collect()
        }
        Err(_) => rows
            .iter()
            .map(|_| Err(RowError::Panicked("the engine panicked".into())))
            .collect(),
    };
    let left = watch.left;
    let broken = |result: &Result<Generated, RowError>| {
        matches!(result, Err(RowError::Compute(_) | RowError::Panicked(_)))
    };
    if rows.len() > 1 && results.iter().all(broken) {
        tracing::warn!(rows = rows.len(), "a batch failed as a whole; trying its halves");
        let (first, second) = rows.split_at(rows.len() / 2);
        let mut outcomes = run(engine, first, hurry);
        outcomes.extend(run(engine, second, hurry));
        return outcomes;
    }
    results
        .into_iter()
        .zip(left)
        .map(|(result, left)| outcome_of(result, left))
        .collect()
}

fn outcome_of(result: Result<Generated, RowError>, left: Option<Left>) -> RowOutcome {
    let error = match (result, left) {
        (Ok(generated), _) => return RowOutcome::Done(Box::new(generated)),
        (Err(_), Some(Left::Expired(refusal))) => return RowOutcome::Expired(refusal),
        (Err(_), Some(Left::HandBack)) => return RowOutcome::HandBack,
        (Err(error), None) => error,
    };
    match error {
        RowError::Params(error) => RowOutcome::Refused(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("params: {error}"),
        )),
        RowError::EmptyInput => RowOutcome::Refused(Refusal::new(ErrorCode::EmptyText, error.to_string())),
        error => RowOutcome::Failed(Refusal::new(ErrorCode::InferenceFailed, error.to_string())),
    }
}
