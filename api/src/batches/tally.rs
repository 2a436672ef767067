//! How far a batch has come: read off the queue and the results, and remembered where it can't change any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::batch_view::{BatchCounts, BatchLinks, BatchStatus, BatchView};
use precis_schemas::error_code::Refusal;
use precis_schemas::manifest::{self, CHUNK_ROWS, Head, Intake};
use precis_schemas::rest::Status;
use precis_schemas::{JobId, JobSubject, Token, time};

use tokio::time::Instant;

use super::store;
use crate::access::Caller;
use crate::queue::ReadConsistency;
use crate::state::AppState;

/// Batches that are remembered; the one that was not asked for longest is forgotten first.
const MOST_BATCHES: usize = 64;
/// Rest after a look, as a multiple of the time that it took.
const REST: u32 = 3;
/// Results that are looked at at once.
const LOOKS_IN_FLIGHT: usize = 64;
/// Added to the longest pause of an upload before a batch whose intake has stopped counts as abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(30);

/// State of a row in a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Not ended, as far as is known.
    Open,
    /// Ended so.
    Ended(Status),
    /// Has no job.
    Refused,
    /// Has left the queue, and its result is not kept any more.
    Gone,
}

/// What is known of a batch.
#[derive(Debug, Default)]
struct Tally {
    chunks: u64,
    rows: Vec<(Option<u64>, Seen)>,
    last_end: Option<Timestamp>,
    /// When the last look was over, and how long it took.
    looked: Option<(Instant, Duration)>,
}

type Shared = Arc<tokio::sync::Mutex<Tally>>;

#[derive(Debug, Default)]
struct Remembered {
    /// Counts the questions.
    clock: u64,
    /// With the number of the last question about each.
    batches: HashMap<JobId, (u64, Shared)>,
}

/// What is known of the batches that were asked for lately. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tallies(Arc<Mutex<Remembered>>);

impl Tallies {
    fn of(&self, batch: &JobId) -> Shared {
        // A poisoned lock still holds a usable map: entries are inserted and removed whole.
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        let map = &mut inner.batches;
        if !map.contains_key(batch) && map.len() >= MOST_BATCHES {
            let oldest = map
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                map.remove(&oldest);
            }
        }
        let entry = map.entry(batch.clone()).or_default();
        entry.0 = now;
        entry.1.clone()
    }
}

/// How long nothing may be heard of an upload that goes on.
pub(super) fn patience(state: &AppState) -> Duration {
    let limits = state.batches();
    limits.idle_timeout() + limits.queue_patience() + ABANDONED_AFTER
}

/// When a batch's intake was over, whether it came to its end or not; none while it goes on.
pub(crate) fn intake_ended_at(state: &AppState, head: &Head) -> Option<Timestamp> {
    match head.intake {
        Intake::Receiving if !is_abandoned(state, head) => None,
        // Known when nothing had been heard for so long.
        Intake::Receiving => Some(
            jiff::SignedDuration::try_from(patience(state))
                .ok()
                .and_then(|patience| head.updated_at.checked_add(patience).ok())
                .unwrap_or(head.updated_at),
        ),
        Intake::Complete | Intake::Broken => Some(head.updated_at),
    }
}

/// Whether nobody takes the batch in any more, although nobody has said so: the process is gone.
pub(super) fn is_abandoned(state: &AppState, head: &Head) -> bool {
    let age = Duration::try_from(clock::now().duration_since(head.updated_at)).unwrap_or_default();
    head.intake == Intake::Receiving && age > patience(state)
}

/// A batch as REST shows it.
///
/// # Errors
/// When the queue can't be asked.
pub(crate) async fn view(state: &AppState, caller: &Caller, head: &Head) -> Result<BatchView, Refusal> {
    let shared = state.tallies().of(&head.id);
    let mut tally = shared.lock().await;
    tally.read_rows(state, caller.tenant(), head).await?;
    tally.look_if_due(state, head).await?;
    Ok(tally.view(state, head))
}

/// A batch that was just accepted, with nothing known but its head: all of its rows count as waiting.
pub(crate) fn view_of_head(state: &AppState, head: &Head) -> BatchView {
    let rows = usize::try_from(head.rows).unwrap_or(usize::MAX);
    let unread = Tally {
        rows: vec![(None, Seen::Open); rows],
        ..Tally::default()
    };
    unread.view(state, head)
}

impl Tally {
    /// Reads the rows that were added since the last time.
    async fn read_rows(&mut self, state: &AppState, tenant: &Token, head: &Head) -> Result<(), Refusal> {
        while self.chunks < head.chunks {
            let chunk = store::chunk(state.queue(), tenant, &head.id, self.chunks).await?;
            self.rows.extend(chunk.rows.iter().map(|row| match row.sequence {
                Some(sequence) => (Some(sequence), Seen::Open),
                None => (None, Seen::Refused),
            }));
            self.chunks += 1;
        }
        Ok(())
    }

    /// Looks, unless the last look is not over for [`REST`] times as long as it took: however often a large batch is
    /// asked for, most of the time nobody looks.
    async fn look_if_due(&mut self, state: &AppState, head: &Head) -> Result<(), Refusal> {
        if self
            .looked
            .is_some_and(|(over, took)| over.elapsed() < took * REST)
        {
            return Ok(());
        }
        let began = Instant::now();
        let looked = self.look(state, head).await;
        self.looked = Some((Instant::now(), began.elapsed()));
        looked
    }

    /// Looks for the ends of the rows that may have ended.
    async fn look(&mut self, state: &AppState, head: &Head) -> Result<(), Refusal> {
        if self.rows.iter().all(|(_, seen)| *seen != Seen::Open) {
            return Ok(());
        }
        let depth = state.depth().await?;
        let subject: Option<JobSubject> = head.subject.parse().ok();
        // A job that no worker was handed waits, unless somebody took it away, or its time is up.
        let delivered = match subject.and_then(|subject| depth.delivered(&subject)) {
            Some(delivered) if clock::now() < head.deadline => delivered,
            _ => u64::MAX,
        };
        let open: Vec<(usize, u64)> = self
            .rows
            .iter()
            .enumerate()
            .filter_map(|(index, (sequence, seen))| match (sequence, seen) {
                (Some(sequence), Seen::Open) if *sequence <= delivered => Some((index, *sequence)),
                _ => None,
            })
            .collect();
        let looks = futures::stream::iter(open).map(|(index, sequence)| async move {
            let Some(id) = manifest::job_of(&head.id, index as u64) else {
                return Ok((index, Some((Seen::Gone, None))));
            };
            let seen = match state.queue().job_end(&id, ReadConsistency::Any).await? {
                Some(end) => Some((Seen::Ended(end.outcome.into()), Some(end.finished_at))),
                // A result is stored before its job leaves the queue, so that the second look is the last word.
                None if state.queue().queued_job(sequence).await?.is_none() => {
                    let end = state.queue().job_end(&id, ReadConsistency::Leader).await?;
                    Some(match end {
                        Some(end) => (Seen::Ended(end.outcome.into()), Some(end.finished_at)),
                        None => (Seen::Gone, None),
                    })
                }
                None => None,
            };
            Ok::<_, Refusal>((index, seen))
        });
        let mut looks = looks.buffer_unordered(LOOKS_IN_FLIGHT);
        while let Some((index, seen)) = looks.try_next().await? {
            if let Some((seen, at)) = seen {
                self.rows[index].1 = seen;
                self.last_end = self.last_end.max(at);
            }
        }
        Ok(())
    }

    fn view(&self, state: &AppState, head: &Head) -> BatchView {
        let counts = self.counts(state, head);
        let open = counts.queued + counts.running;
        let total = self.rows.len() as u64;
        let done = total - open;
        let status = match head.intake {
            Intake::Receiving if is_abandoned(state, head) => BatchStatus::Broken,
            Intake::Receiving => BatchStatus::Receiving,
            Intake::Broken => BatchStatus::Broken,
            Intake::Complete if open == 0 => BatchStatus::Finished,
            Intake::Complete => BatchStatus::Running,
        };
        let elapsed = time::millis_between(head.created_at, clock::now()) / 1e3;
        // At the pace so far, waiting included. Without an end there is no pace.
        let eta_seconds = (status == BatchStatus::Running && done > counts.refused)
            .then(|| (elapsed * open as f64 / (done - counts.refused) as f64).ceil() as u64);
        BatchView {
            id: head.id.to_string(),
            status,
            rows: total,
            progress: if total == 0 {
                0.0
            } else {
                done as f64 / total as f64
            },
            counts,
            eta_seconds,
            error: head.error.as_ref().map(Into::into),
            created_at: head.created_at,
            finished_at: self
                .last_end
                .filter(|_| open == 0 && status != BatchStatus::Receiving),
            deadline: head.deadline,
            links: BatchLinks::of(head.id.as_str()),
        }
    }

    fn counts(&self, state: &AppState, head: &Head) -> BatchCounts {
        let mut counts = BatchCounts::default();
        for (index, (_, seen)) in self.rows.iter().enumerate() {
            let count = match seen {
                Seen::Open if is_running(state, head, index as u64) => &mut counts.running,
                Seen::Open | Seen::Ended(Status::Queued | Status::Running) => &mut counts.queued,
                Seen::Ended(Status::Succeeded) => &mut counts.succeeded,
                Seen::Ended(Status::Failed) => &mut counts.failed,
                Seen::Ended(Status::Cancelled) => &mut counts.cancelled,
                Seen::Ended(Status::Expired) => &mut counts.expired,
                Seen::Refused => &mut counts.refused,
                Seen::Gone => &mut counts.gone,
            };
            *count += 1;
        }
        counts
    }
}

/// Whether a worker has said that it has begun with a row.
fn is_running(state: &AppState, head: &Head, index: u64) -> bool {
    manifest::job_of(&head.id, index).is_some_and(|id| state.running().has(&id))
}

/// Rows before those of chunk `number`.
pub(super) fn first_row(number: u64) -> u64 {
    number * CHUNK_ROWS as u64
}
