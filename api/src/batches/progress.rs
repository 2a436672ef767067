//! The progress of a batch: the status of its rows, read from the queue and the results, and cached once it is final.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use precis_runtime::clock;
use precis_runtime::config::BatchesConfig;
use precis_runtime::expiring_map::ExpiringMap;
use precis_schemas::batch_view::{BatchCounts, BatchLinks, BatchStatus, BatchView};
use precis_schemas::error_code::Refusal;
use precis_schemas::manifest::{self, BatchHead, IntakeState};
use precis_schemas::rest::Status;
use precis_schemas::{JobHandle, JobId, Token};
use tokio::time::Instant;

use super::store;
use crate::gateway::state::AppState;
use crate::jobs::submit;
use crate::queue::eta::Estimate;
use crate::queue::{QueueBackend, ReadConsistency, TenantDepth, TerminationOutcome};
use crate::watch::progress::Running;

/// Batches to cache. The least recently requested one is dropped first.
const MAX_BATCHES: usize = 64;
/// Shortest pause after a refresh, as a multiple of the time it took. Frequent requests thus can't keep the queue busy.
const REFRESH_PAUSE: u32 = 3;
/// Rows to look up concurrently.
const MAX_IN_FLIGHT: usize = 64;
/// Margin on top of the longest legitimate pause of an upload, after which the batch counts as abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(30);

/// The status of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowStatus {
    /// Queued or running, as far as is known.
    Open,
    /// Ended with this status.
    Ended(Status),
    /// Has no job.
    Refused,
    /// Has left the queue, and its result is no longer kept.
    Gone,
}

/// The known status of a batch's rows.
#[derive(Debug, Default)]
pub(super) struct BatchProgress {
    /// Chunks that were read.
    chunks: u64,
    /// Sequence and status of each row.
    rows: Vec<(Option<u64>, RowStatus)>,
    /// When the last row ended.
    last_end: Option<Timestamp>,
    /// When the last refresh ended, and how long it took.
    refreshed: Option<(Instant, Duration)>,
}

/// The progress of recently requested batches.
#[derive(Debug)]
pub(crate) struct ProgressCache(ExpiringMap<JobId, Arc<tokio::sync::Mutex<BatchProgress>>>);

impl Default for ProgressCache {
    fn default() -> Self {
        Self(ExpiringMap::new(Duration::MAX, MAX_BATCHES))
    }
}

impl ProgressCache {
    /// Returns the progress of a batch. Requests for the same batch share it.
    pub(super) fn get(&self, batch: &JobId) -> Arc<tokio::sync::Mutex<BatchProgress>> {
        self.0.get_or_insert_with(batch.clone(), Arc::default)
    }
}

/// Returns how long a gateway may go without writing the head of a batch that it receives.
pub(super) fn max_silence(config: &BatchesConfig) -> Duration {
    config.idle_timeout() + config.queue_patience() + ABANDONED_AFTER
}

/// Returns when the upload of a batch ended, successfully or not. `None` while it is in progress.
pub(crate) fn intake_ended_at(config: &BatchesConfig, head: &BatchHead) -> Option<Timestamp> {
    match head.intake {
        IntakeState::Receiving if !is_abandoned(config, head) => None,
        // An abandoned upload ends when its longest legitimate pause is over.
        IntakeState::Receiving => Some(
            SignedDuration::try_from(max_silence(config))
                .ok()
                .and_then(|silence| head.updated_at.checked_add(silence).ok())
                .unwrap_or(head.updated_at),
        ),
        IntakeState::Complete | IntakeState::Broken => Some(head.updated_at),
    }
}

/// Reports whether the gateway that received a batch has died.
pub(super) fn is_abandoned(config: &BatchesConfig, head: &BatchHead) -> bool {
    let age = Duration::try_from(clock::now().duration_since(head.updated_at)).unwrap_or_default();
    head.intake == IntakeState::Receiving && age > max_silence(config)
}

impl BatchProgress {
    /// The progress of a batch of which only the head is known: every row counts as queued.
    pub(super) fn of_head(head: &BatchHead) -> Self {
        let rows = usize::try_from(head.rows).unwrap_or(usize::MAX);
        Self {
            rows: vec![(None, RowStatus::Open); rows],
            ..Self::default()
        }
    }

    /// Reads the rows that were added since the last call.
    ///
    /// # Errors
    /// If the queue can't be reached.
    pub(super) async fn read_rows(
        &mut self,
        queue: &dyn QueueBackend,
        tenant: &Token,
        head: &BatchHead,
    ) -> Result<(), Refusal> {
        while self.chunks < head.chunks {
            let chunk = store::chunk(queue, tenant, &head.id, self.chunks).await?;
            self.rows.extend(chunk.rows.iter().map(|row| match row.sequence {
                Some(sequence) => (Some(sequence), RowStatus::Open),
                None => (None, RowStatus::Refused),
            }));
            self.chunks += 1;
        }
        Ok(())
    }

    /// Updates the status of open rows, unless the pause after the last refresh is not over.
    ///
    /// # Errors
    /// If the queue can't be reached.
    pub(super) async fn refresh_if_due(
        &mut self,
        queue: &dyn QueueBackend,
        depth: impl Future<Output = Result<Option<TenantDepth>, Refusal>>,
        head: &BatchHead,
    ) -> Result<(), Refusal> {
        if self
            .refreshed
            .is_some_and(|(ended_at, took)| ended_at.elapsed() < took * REFRESH_PAUSE)
        {
            return Ok(());
        }
        let started = Instant::now();
        let refreshed = self.refresh(queue, depth, head).await;
        self.refreshed = Some((Instant::now(), started.elapsed()));
        refreshed
    }

    async fn refresh(
        &mut self,
        queue: &dyn QueueBackend,
        depth: impl Future<Output = Result<Option<TenantDepth>, Refusal>>,
        head: &BatchHead,
    ) -> Result<(), Refusal> {
        if self.rows.iter().all(|(_, status)| *status != RowStatus::Open) {
            return Ok(());
        }
        // Until the deadline, a row that was never delivered is still queued, so it needs no lookup.
        let delivered = match depth.await? {
            Some(depth) if clock::now() < head.deadline => depth.delivered,
            _ => u64::MAX,
        };
        let open: Vec<(usize, u64)> = self
            .rows
            .iter()
            .enumerate()
            .filter_map(|(index, (sequence, status))| match (sequence, status) {
                (Some(sequence), RowStatus::Open) if *sequence <= delivered => Some((index, *sequence)),
                _ => None,
            })
            .collect();
        let lookups = futures::stream::iter(open).map(|(index, sequence)| async move {
            let Some(id) = manifest::job_of(&head.id, index as u64) else {
                return Ok((index, Some((RowStatus::Gone, None))));
            };
            Ok::<_, Refusal>((index, lookup(queue, &id, sequence).await?))
        });
        let mut lookups = lookups.buffer_unordered(MAX_IN_FLIGHT);
        while let Some((index, found)) = lookups.try_next().await? {
            if let Some((status, finished_at)) = found {
                self.rows[index].1 = status;
                self.last_end = self.last_end.max(finished_at);
            }
        }
        Ok(())
    }

    /// Cancels the rows that have not ended. A row that moves between queue and worker may stay open; the caller then
    /// repeats the request.
    ///
    /// # Errors
    /// If the queue can't be reached. Rows that were cancelled before stay cancelled.
    pub(super) async fn cancel(&mut self, state: &AppState, head: &BatchHead) -> Result<(), Refusal> {
        let open = self.rows.iter().enumerate();
        let open: Vec<(usize, u64)> = open
            .filter(|(_, (_, status))| *status == RowStatus::Open)
            .filter_map(|(index, (sequence, _))| Some((index, (*sequence)?)))
            .collect();
        let cancellations = futures::stream::iter(open).map(|(index, sequence)| async move {
            let Some(id) = manifest::job_of(&head.id, index as u64) else {
                return Ok((index, None));
            };
            let handle = JobHandle {
                id,
                sequence: Some(sequence),
            };
            Ok::<_, Refusal>((index, submit::cancel(state, &handle).await?))
        });
        let mut cancellations = cancellations.buffer_unordered(MAX_IN_FLIGHT);
        while let Some((index, outcome)) = cancellations.try_next().await? {
            if let Some(
                TerminationOutcome::Terminated(result) | TerminationOutcome::AlreadyFinished(result),
            ) = outcome
            {
                self.rows[index].1 = RowStatus::Ended(result.outcome.into());
                self.last_end = self.last_end.max(Some(result.finished_at));
            }
        }
        self.refreshed = None;
        Ok(())
    }

    /// Returns the sequence of the last row that has not ended.
    pub(super) fn last_open_sequence(&self) -> Option<u64> {
        let open = self.rows.iter().filter(|(_, status)| *status == RowStatus::Open);
        open.filter_map(|(sequence, _)| *sequence).max()
    }

    /// The batch as REST shows it. `estimate` is that of its last open row.
    pub(super) fn view(
        &self,
        config: &BatchesConfig,
        running: &Running,
        head: &BatchHead,
        estimate: Option<Estimate>,
    ) -> BatchView {
        let counts = self.counts(running, head);
        let open = counts.queued + counts.running;
        let total = self.rows.len() as u64;
        let done = total - open;
        let status = match head.intake {
            IntakeState::Receiving if is_abandoned(config, head) => BatchStatus::Broken,
            IntakeState::Receiving => BatchStatus::Receiving,
            IntakeState::Broken => BatchStatus::Broken,
            IntakeState::Complete if open == 0 => BatchStatus::Finished,
            IntakeState::Complete => BatchStatus::Running,
        };
        let estimate = estimate.filter(|_| status == BatchStatus::Running);
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
            eta_seconds: estimate.map(|estimate| estimate.seconds.ceil() as u64),
            eta_seconds_p90: estimate.map(|estimate| estimate.p90.ceil() as u64),
            error: head.error.as_ref().map(Into::into),
            created_at: head.created_at,
            finished_at: self
                .last_end
                .filter(|_| open == 0 && status != BatchStatus::Receiving),
            deadline: head.deadline,
            links: BatchLinks::of(head.id.as_str()),
        }
    }

    fn counts(&self, running: &Running, head: &BatchHead) -> BatchCounts {
        let is_running =
            |index: usize| manifest::job_of(&head.id, index as u64).is_some_and(|id| running.has(&id));
        let mut counts = BatchCounts::default();
        for (index, (_, status)) in self.rows.iter().enumerate() {
            let count = match status {
                RowStatus::Open if is_running(index) => &mut counts.running,
                RowStatus::Open | RowStatus::Ended(Status::Queued | Status::Running) => &mut counts.queued,
                RowStatus::Ended(Status::Succeeded) => &mut counts.succeeded,
                RowStatus::Ended(Status::Failed) => &mut counts.failed,
                RowStatus::Ended(Status::Cancelled) => &mut counts.cancelled,
                RowStatus::Ended(Status::Expired) => &mut counts.expired,
                RowStatus::Refused => &mut counts.refused,
                RowStatus::Gone => &mut counts.gone,
            };
            *count += 1;
        }
        counts
    }
}

/// Looks up the job of a row. Returns its final status and when it ended, or `None` if it has not ended.
async fn lookup(
    queue: &dyn QueueBackend,
    id: &JobId,
    sequence: u64,
) -> Result<Option<(RowStatus, Option<Timestamp>)>, Refusal> {
    if let Some(end) = queue.job_end(id, ReadConsistency::Any).await? {
        return Ok(Some((
            RowStatus::Ended(end.outcome.into()),
            Some(end.finished_at),
        )));
    }
    if queue.queued_job(id, sequence).await?.is_some() {
        return Ok(None);
    }
    // A worker stores the result before it removes the job from the queue, so this read is decisive.
    let end = queue.job_end(id, ReadConsistency::Leader).await?;
    Ok(Some(match end {
        Some(end) => (RowStatus::Ended(end.outcome.into()), Some(end.finished_at)),
        None => (RowStatus::Gone, None),
    }))
}
