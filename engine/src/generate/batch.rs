//! One batch from the encoder to the last row's last token.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rayon::prelude::*;

use super::search::Search;
use super::{BatchObserver, FinishReason, GenerationParams, RowDecision, Timings};
use crate::error::RowError;
use crate::model::{Prefill, T5Model};

/// A request that was checked.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Its index in the batch that the caller gave.
    pub(crate) row: usize,
    /// The encoded text.
    pub(crate) ids: &'a [u32],
    /// How the tokens are chosen.
    pub(crate) params: &'a GenerationParams,
    /// Seed of sampling.
    pub(crate) seed: u64,
}

/// What a job came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// New tokens, with the end token if it was reached.
    pub(crate) ids: Vec<u32>,
    pub(crate) score: f32,
    pub(crate) finish: FinishReason,
    pub(crate) timings: Timings,
    pub(crate) padding_ratio: f64,
}

/// A request in the decoder.
struct Row<'a> {
    job: Job<'a>,
    search: Search,
}

/// What a step made of a row.
type Advance = Result<Option<Vec<usize>>, RowError>;

/// Runs jobs together. The result of each goes to `done` with its row index, as soon as it is known.
pub(crate) fn run(
    model: &T5Model,
    (start, eos): (u32, &[u32]),
    jobs: Vec<Job<'_>>,
    observer: &mut dyn BatchObserver,
    mut done: impl FnMut(usize, Result<Outcome, RowError>),
) {
    let mut rows = Vec::with_capacity(jobs.len());
    for job in jobs {
        match keep(observer, job.row, 0, &[]) {
            Err(error) => done(job.row, Err(error)),
            Ok(()) => rows.push(Row {
                search: Search::new(job.params, start, eos, job.seed),
                job,
            }),
        }
    }
    // Requests of equal width side by side share their cross-attention products.
    rows.sort_by_key(|row| row.job.params.num_beams);

    let begin = Instant::now();
    let inputs: Vec<&[u32]> = rows.iter().map(|row| row.job.ids).collect();
    let prefill = compute(|| model.prefill(&inputs, &widths(&rows)));
    let Prefill {
        mut state,
        padding_ratio,
    } = match prefill {
        Ok(prefill) => prefill,
        Err(error) => return rows.iter().for_each(|row| done(row.job.row, Err(error.clone()))),
    };
    let encode = begin.elapsed();
    tracing::debug!(rows = rows.len(), padding_ratio, ?encode, "prefill");

    let begin = Instant::now();
    let mut step = 0;
    while !rows.is_empty() {
        let mut last = Vec::new();
        rows.iter().for_each(|row| row.search.push_last_tokens(&mut last));
        let mut logits = match compute(|| model.step(&last, &mut state)) {
            Ok(logits) => logits,
            Err(error) => return rows.iter().for_each(|row| done(row.job.row, Err(error.clone()))),
        };
        let advances = advance(&mut rows, &mut logits, last.len(), step);
        step += 1;

        let (mut parents, mut requests, mut first) = (Vec::new(), Vec::new(), 0);
        let mut advances = advances.into_iter().zip(0u32..);
        rows.retain(|row| {
            let width = row.job.params.num_beams;
            let offset = first;
            first += width;
            let outcome = match advances.next() {
                Some((Ok(Some(from)), request)) => {
                    match keep(observer, row.job.row, step, row.search.tokens_so_far()) {
                        Ok(()) => {
                            parents.extend(from.into_iter().map(|beam| (offset + beam) as u32));
                            requests.push(request);
                            return true;
                        }
                        Err(error) => Err(error),
                    }
                }
                Some((Ok(None), _)) => {
                    let timings = Timings {
                        encode,
                        decode: begin.elapsed(),
                    };
                    Ok(outcome(&row.search, eos, timings, padding_ratio))
                }
                Some((Err(error), _)) => Err(error),
                None => Err(RowError::Compute("a row has no step".to_owned())),
            };
            done(row.job.row, outcome);
            false
        });
        if let Err(error) = compute(|| state.select(&parents, &requests, &widths(&rows))) {
            return rows.iter().for_each(|row| done(row.job.row, Err(error.clone())));
        }
    }
    tracing::debug!(steps = step, decode = ?begin.elapsed(), "decoded");
}

/// Gives every row its logits, side by side on the threads of the pool.
fn advance(rows: &mut [Row<'_>], logits: &mut [f32], count: usize, step: usize) -> Vec<Advance> {
    let vocabulary = logits.len() / count;
    let mut rest = logits;
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        let (own, others) = rest.split_at_mut(row.job.params.num_beams * vocabulary);
        parts.push((&mut row.search, own));
        rest = others;
    }
    let advance = |(search, logits): (&mut Search, &mut [f32])| {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(RowError::NotANumber { step });
        }
        catch_unwind(AssertUnwindSafe(|| search.advance(logits))).map_err(|panic| panicked(panic.as_ref()))
    };
    parts.into_par_iter().map(advance).collect()
}

fn outcome(search: &Search, eos: &[u32], timings: Timings, padding_ratio: f64) -> Outcome {
    let (ids, score) = search.result();
    let ended = ids.last().is_some_and(|last| eos.contains(last));
    let finish = if ended {
        FinishReason::Eos
    } else {
        FinishReason::Length
    };
    Outcome {
        ids: ids.to_vec(),
        score,
        finish,
        timings,
        padding_ratio,
    }
}

fn widths(rows: &[Row<'_>]) -> Vec<usize> {
    rows.iter().map(|row| row.job.params.num_beams).collect()
}

fn keep(observer: &mut dyn BatchObserver, row: usize, step: usize, tokens: &[u32]) -> Result<(), RowError> {
    match catch_unwind(AssertUnwindSafe(|| observer.keep(row, step, tokens))) {
        Ok(RowDecision::Continue) => Ok(()),
        Ok(RowDecision::Cancel(reason)) => Err(RowError::Cancelled { reason }),
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

/// A computation of the whole batch: its error, or its panic, is one of each row.
fn compute<T>(work: impl FnOnce() -> candle_core::Result<T>) -> Result<T, RowError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| RowError::Compute(error.to_string())),
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> RowError {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
    RowError::Panicked(message.unwrap_or_else(|| "a panic without a message".to_owned()))
}
