//! Stage 5: run the model on a job. It joins those that the engine is decoding already, and leaves them when it is done,
//! when its deadline passes, when its client cancels it, or when the worker must hurry.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use precis_engine::{Engine, Event, Generated, Generation, RowError};
use precis_runtime::clock;
use precis_schemas::Job;
use precis_schemas::embedding::Embeddings;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::time;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::Row;
use super::decode;
use super::long_text::{Reading, map_reduce};

/// Time between two parts of a text that are told.
const PARTS: Duration = Duration::from_millis(100);

/// How a row ended.
pub enum RowOutcome {
    /// There is a summary.
    Done(Box<Generated>),
    /// Its deadline passed.
    Expired(Refusal),
    /// Its client cancelled it.
    Cancelled(Refusal),
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
    /// When it was given to the engine.
    pub batch_began_at: Timestamp,
    /// Jobs that were in hand then, this one included.
    pub batch_size: usize,
    /// Vectors of the texts; [`embed`](super::embed::embed) adds them.
    pub embeddings: Option<Embeddings>,
    /// How it was read, if in parts.
    pub reading: Option<Reading>,
}

/// What may end a row before the model does.
pub struct Ends {
    /// The worker must give up what it has begun.
    pub hurry: CancellationToken,
    /// The client doesn't want it any more.
    pub cancelled: CancellationToken,
}

/// Runs the model on a row. `parts` gets the tokens so far, now and then.
pub async fn infer(
    engine: Arc<Engine>,
    row: Row,
    batch_size: usize,
    ends: Ends,
    parts: mpsc::Sender<Arc<[u32]>>,
) -> Inferred {
    let batch_began_at = clock::now();
    let mut reading = None;
    let work = async {
        match &row.long {
            Some(long) => {
                let (generated, read) = map_reduce(&engine, long.clone(), &parts).await?;
                reading = Some(read);
                Ok(generated)
            }
            None => finished(engine.submit(&row.request)?, &parts).await,
        }
    };
    let outcome = first_end(&row.tokenized.accepted.job, &ends, work).await;
    Inferred {
        row,
        outcome,
        batch_began_at,
        batch_size,
        embeddings: None,
        reading,
    }
}

/// The end of a job that comes first. What the model has under way for it is given up with `work`, which isn't even begun
/// for a job that was cancelled on its way here.
async fn first_end(
    job: &Job,
    ends: &Ends,
    work: impl Future<Output = Result<Box<Generated>, RowError>>,
) -> RowOutcome {
    let cancelled = || {
        RowOutcome::Cancelled(Refusal::new(
            ErrorCode::Cancelled,
            "the client cancelled the job while it was worked on",
        ))
    };
    if ends.cancelled.is_cancelled() {
        return cancelled();
    }
    let deadline = async {
        match job.deadline {
            Some(deadline) => tokio::time::sleep_until(instant_of(deadline)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // What is done is done, even if its time is up.
        biased;
        result = work => match result {
            Ok(generated) => RowOutcome::Done(generated),
            Err(error) => refused(error),
        },
        () = ends.cancelled.cancelled() => cancelled(),
        () = ends.hurry.cancelled() => RowOutcome::HandBack,
        () = deadline => match decode::expired(job, clock::now().max(job.deadline.unwrap_or_default())) {
            Some(refusal) => RowOutcome::Expired(refusal),
            None => RowOutcome::HandBack,
        },
    }
}

/// Waits for the end of a generation, and tells parts of it on the way.
pub(super) async fn finished(
    mut generation: Generation,
    parts: &mpsc::Sender<Arc<[u32]>>,
) -> Result<Box<Generated>, RowError> {
    let mut next_part = Instant::now() + PARTS;
    while let Some(event) = generation.next().await {
        match event {
            Event::Started => {}
            Event::Tokens(tokens) => {
                if Instant::now() >= next_part {
                    // Whoever tells is slower than the model: a later part says more.
                    let _ = parts.try_send(tokens);
                    next_part = Instant::now() + PARTS;
                }
            }
            Event::Finished(generated) => return Ok(generated),
            Event::Failed(error) => return Err(error),
        }
    }
    Err(RowError::Compute("the engine has stopped".to_owned()))
}

/// The moment of a deadline by the clock that timers use.
fn instant_of(deadline: Timestamp) -> Instant {
    let left = time::millis_between(clock::now(), deadline).max(0.0);
    Instant::now() + Duration::from_secs_f64((left / 1e3).min(1e9))
}

fn refused(error: RowError) -> RowOutcome {
    match error {
        RowError::Params(error) => RowOutcome::Refused(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("params: {error}"),
        )),
        RowError::EmptyInput => RowOutcome::Refused(Refusal::new(ErrorCode::EmptyText, error.to_string())),
        error => RowOutcome::Failed(Refusal::new(ErrorCode::InferenceFailed, error.to_string())),
    }
}

#[cfg(test)]
mod tests;
