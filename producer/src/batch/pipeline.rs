//! Publishes the rows of a file and collects their results, with a bounded number of jobs in the queue.

use std::collections::HashMap;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use precis_runtime::backoff::Backoff;
use precis_runtime::clock;
use precis_runtime::results::MAX_AT_ONCE;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::job::JobLimits;
use precis_schemas::{Channel, GenerationParams, Job, JobId, JobResult, JobSubject, Outcome, Task, manifest};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::journal::{Journal, Resumed, RowOutcome};
use super::progress::{Obstacle, Progress};
use super::window::Window;
use crate::files::{FileError, Source, Texts};
use crate::polling::{PolledResults, ResultPoller, ended};
use crate::scores::Scorer;
use crate::{Producer, PublishError, Results, Submission};

/// Jobs to publish at once.
const MAX_PUBLISHING: usize = 256;
/// Rows to read ahead.
const READ_AHEAD: usize = 64;
/// Delays before a job that the queue refused is published again.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(250);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often to hand the journal to the operating system, and how many times that before it goes to the disk.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
const FLUSHES_PER_SYNC: u32 = 10;
/// How long after its deadline a job may take to end. The monitor ends jobs that no worker runs.
const GRACE: SignedDuration = SignedDuration::from_mins(10);

/// How a pipeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipelineOutcome {
    /// Every row has an outcome.
    Complete,
    /// A signal stopped it.
    Interrupted {
        /// Rows with an outcome.
        done: u64,
    },
}

/// The rows of a batch on their way through the queue.
pub(super) struct Pipeline {
    pub(super) producer: Producer,
    pub(super) results: Results,
    pub(super) subject: JobSubject,
    pub(super) params: GenerationParams,
    pub(super) limits: JobLimits,
    pub(super) batch: JobId,
    /// Number of rows of the file.
    pub(super) rows: u64,
    /// How long a job may wait in the queue.
    pub(super) ttl: Duration,
    pub(super) trace: TraceContext,
    /// Most jobs in the queue.
    pub(super) in_flight: usize,
    pub(super) stop: CancellationToken,
}

/// A row as it is read.
type ReadRow = Result<(u64, Result<Texts, Refusal>), FileError>;

/// Reads the rows after the first `skip` on a thread of their own.
fn read(source: Source, skip: u64) -> mpsc::Receiver<ReadRow> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        let rows = match source.open() {
            Ok(rows) => rows,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        for (index, row) in rows.enumerate() {
            if (index as u64) < skip && row.is_ok() {
                continue;
            }
            // The receiver is gone when the batch is stopped.
            if sender
                .blocking_send(row.map(|row| (row.line, row.texts)))
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// Cuts a text to at most `bytes` bytes.
fn shorten(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
        let end = ends.take_while(|end| *end <= bytes).last().unwrap_or_default();
        text.truncate(end);
    }
}

/// A job that is in the queue, or why it is not.
type Published = Result<Timestamp, Refusal>;

impl Pipeline {
    /// Takes every row to its outcome. Jobs of an earlier run are waited for.
    ///
    /// # Errors
    /// If the file or the journal fails, or the queue refuses all jobs.
    pub(super) async fn run(
        &self,
        source: &Source,
        journal: &mut Journal,
        resumed: Resumed,
        progress: &Progress,
    ) -> anyhow::Result<PipelineOutcome> {
        let mut work = RunningBatch {
            pipeline: self,
            window: Window::new(resumed.done, self.in_flight),
            done: resumed.done,
            known: self.known(&resumed).await?,
            published_before: resumed.published,
            poller: ResultPoller::new(self.results.clone()),
            scorer: Scorer::default(),
            journal,
            progress,
        };
        work.run(read(source.clone(), resumed.done)).await
    }

    /// Returns the results of jobs that an earlier run may have published without noting their ends.
    async fn known(&self, resumed: &Resumed) -> anyhow::Result<HashMap<u64, Result<JobResult, String>>> {
        let mut known = HashMap::new();
        let last = resumed.published.keys().max().copied().unwrap_or(resumed.done);
        if resumed.done == 0 && resumed.published.is_empty() {
            return Ok(known);
        }
        // A few more were published and not noted.
        let last = (last + 2 * MAX_PUBLISHING as u64).min(self.rows);
        let rows: Vec<u64> = (resumed.done..last).collect();
        for rows in rows.chunks(MAX_AT_ONCE) {
            let ids: Vec<JobId> = rows.iter().filter_map(|row| self.id(*row)).collect();
            let found = self.results.get_many(&ids).await?;
            known.extend(
                found
                    .into_iter()
                    .filter_map(|(id, result)| Some((self.row_of(&id)?, result))),
            );
        }
        Ok(known)
    }

    fn id(&self, row: u64) -> Option<JobId> {
        manifest::job_of(&self.batch, row)
    }

    fn row_of(&self, id: &JobId) -> Option<u64> {
        id.as_str()
            .strip_prefix(self.batch.as_str())?
            .strip_prefix('-')?
            .parse()
            .ok()
    }

    fn job(&self, row: u64, texts: Texts) -> Result<Job, Refusal> {
        let mut batch = manifest::place_of(&self.batch, row);
        batch.size = Some(self.rows);
        let id = batch
            .job_id()
            .ok_or_else(|| Refusal::new(ErrorCode::Internal, "the batch id is too long"))?;
        let mut metadata = texts.notes;
        for value in metadata.values_mut() {
            // A note must not stop its row.
            shorten(value, self.limits.max_metadata_bytes);
        }
        let ttl = SignedDuration::try_from(self.ttl).unwrap_or(SignedDuration::MAX);
        let job = Job {
            id,
            text: texts.article,
            reference: texts.reference,
            summary: None,
            stemmed: false,
            batch: Some(batch),
            params: self.params.clone(),
            deadline: clock::now().checked_add(ttl).ok(),
            channel: Channel::Batch,
            metadata,
            send_to_arize: None,
            callback: None,
        };
        job.validate(Task::Summarize, &self.limits)?;
        Ok(job)
    }

    /// Publishes a job, however long the queue is full or unreachable.
    ///
    /// # Errors
    /// If the job is too large, or the queue refuses it for good.
    async fn publish(&self, job: Job, progress: &Progress) -> anyhow::Result<Published> {
        let until = job.deadline.and_then(|deadline| deadline.checked_add(GRACE).ok());
        let submission = Submission {
            subject: self.subject.clone(),
            job,
            trace: self.trace.clone(),
        };
        let mut backoff = Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
        loop {
            match self.producer.publish(&submission).await {
                Ok(_) => {
                    progress.clear(Obstacle::Queue);
                    return Ok(Ok(until.unwrap_or(Timestamp::MAX)));
                }
                Err(error @ (PublishError::TooLarge(_) | PublishError::Encode(_))) => {
                    return Ok(Err(Refusal::from(&error)));
                }
                Err(
                    error @ (PublishError::Full(_)
                    | PublishError::TenantFull(_)
                    | PublishError::Unavailable(_)),
                ) => progress.hold(Obstacle::Queue, &error.to_string()),
                Err(error @ PublishError::Other(_)) => return Err(error.into()),
            }
            backoff.sleep().await;
        }
    }
}

/// The state of a running pipeline.
struct RunningBatch<'a> {
    pipeline: &'a Pipeline,
    window: Window,
    /// Rows with an outcome in the journal.
    done: u64,
    /// Results of jobs of an earlier run.
    known: HashMap<u64, Result<JobResult, String>>,
    /// Jobs of an earlier run, and when they have ended.
    published_before: HashMap<u64, Timestamp>,
    poller: ResultPoller,
    scorer: Scorer,
    journal: &'a mut Journal,
    progress: &'a Progress,
}

impl RunningBatch<'_> {
    async fn run(&mut self, mut rows: mpsc::Receiver<ReadRow>) -> anyhow::Result<PipelineOutcome> {
        let pipeline = self.pipeline;
        let progress = self.progress;
        let mut is_read = false;
        let mut publishing = FuturesUnordered::new();
        let mut polls = FuturesUnordered::new();
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        let mut flushes = 0;
        loop {
            if polls.is_empty() {
                let ids = self.window.next_waiting(MAX_AT_ONCE);
                let ids: Vec<JobId> = ids.into_iter().filter_map(|row| pipeline.id(row)).collect();
                if !ids.is_empty() {
                    polls.push(self.poller.poll(ids));
                }
            }
            let takes_rows = !is_read && self.window.has_room() && publishing.len() < MAX_PUBLISHING;
            tokio::select! {
                () = pipeline.stop.cancelled() => {
                    self.journal.sync()?;
                    return Ok(PipelineOutcome::Interrupted { done: self.done });
                }
                row = rows.recv(), if takes_rows => match row {
                    None => is_read = true,
                    Some(row) => {
                        let (line, texts) = row?;
                        if let Some((row, job)) = self.begin(line, texts) {
                            publishing.push(pipeline.publish(job, progress).map(move |published| (row, published)));
                        }
                    }
                },
                Some((row, published)) = publishing.next(), if !publishing.is_empty() => {
                    match published? {
                        Ok(until) => {
                            self.journal.add_published(row, until)?;
                            self.window.wait(row, until);
                        }
                        Err(refusal) => self.refuse(row, &refusal),
                    }
                }
                Some(answer) = polls.next(), if !polls.is_empty() => self.take(answer),
                _ = flush.tick() => {
                    flushes += 1;
                    if flushes % FLUSHES_PER_SYNC == 0 {
                        self.journal.sync()?;
                        self.give_up();
                    } else {
                        self.journal.flush()?;
                    }
                    progress.tick();
                }
            }
            while let Some(outcome) = self.window.take() {
                self.done += 1;
                progress.add(&outcome);
                self.journal.add(outcome)?;
            }
            if is_read && self.window.is_empty() {
                return Ok(PipelineOutcome::Complete);
            }
        }
    }

    /// Adds a row to the window. Returns its job if it must be published.
    fn begin(&mut self, line: u64, texts: Result<Texts, Refusal>) -> Option<(u64, Job)> {
        let row = self.window.add(line);
        if let Some(result) = self.known.remove(&row) {
            self.end(row, result);
            return None;
        }
        let job = match texts.and_then(|texts| self.pipeline.job(row, texts)) {
            Ok(job) => job,
            Err(refusal) => {
                self.refuse(row, &refusal);
                return None;
            }
        };
        match self.published_before.remove(&row) {
            Some(until) if until > clock::now() => {
                self.window.wait(row, until);
                None
            }
            _ => Some((row, job)),
        }
    }

    /// Ends a row without a job.
    fn refuse(&mut self, row: u64, refusal: &Refusal) {
        let line = self.window.line(row);
        self.window.end(RowOutcome {
            row,
            line,
            status: Outcome::Failed,
            summary: None,
            error: Some(format!("{}: {} (line {line})", refusal.code, refusal.message)),
            scores: None,
        });
    }

    fn end(&mut self, row: u64, result: Result<JobResult, String>) {
        let reference = result.as_ref().ok().and_then(|result| result.reference.clone());
        let (status, summary, error) = ended(result);
        let scores = match (&reference, &summary) {
            (Some(reference), Some(summary)) => self.scorer.score(reference, summary).ok(),
            _ => None,
        };
        self.window.end(RowOutcome {
            row,
            line: self.window.line(row),
            status,
            summary,
            error,
            scores,
        });
    }

    fn take(&mut self, answer: PolledResults) {
        self.poller.polled(&answer);
        match answer {
            Ok(found) => {
                self.progress.clear(Obstacle::Results);
                for (id, result) in found {
                    if let Some(row) = self.pipeline.row_of(&id) {
                        self.end(row, result);
                    }
                }
            }
            // The connection comes back by itself.
            Err(error) => self.progress.hold(Obstacle::Results, &error.to_string()),
        }
    }

    /// Ends rows whose jobs should have ended long ago: somebody removed them from the queue.
    fn give_up(&mut self) {
        for row in self.window.overdue(clock::now()) {
            let refusal = Refusal::new(
                ErrorCode::JobGone,
                "the job has no result long after its deadline; it was removed from the queue",
            );
            self.refuse(row, &refusal);
        }
    }
}
