//! What the queue in memory consists of: jobs that wait or run, by lane and in order, and the results of those that have
//! ended. Plain data; who waits for it is [`queue`](super::queue)'s business.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use precis_producer::Submission;
use precis_runtime::clock;
use precis_runtime::config::LocalConfig as Settings;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::termination::{RawJob, Termination, answer};
use precis_schemas::{JobHandle, JobId, JobResult, Lane, Outcome, Token};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::queue::{LaneDepth, QueueDepth};
use crate::queue::{QueuedJob, TerminationOutcome};

/// A job that waits, or that the worker has.
struct Entry {
    submission: Arc<Submission>,
    submitted_at: Timestamp,
    cancelled: CancellationToken,
}

/// A job that is to be worked on.
pub(super) struct Taken {
    /// Its place.
    pub(super) sequence: u64,
    /// The job.
    pub(super) submission: Arc<Submission>,
    /// When it came.
    pub(super) submitted_at: Timestamp,
    /// Cancelled when nobody wants it any more.
    pub(super) cancelled: CancellationToken,
}

/// Jobs and results.
#[derive(Default)]
pub(super) struct Book {
    last_sequence: u64,
    /// Sequences that wait, by lane.
    waiting: HashMap<Lane, BTreeSet<u64>>,
    /// What each lane may still take in this round.
    credits: HashMap<Lane, u32>,
    /// Everything that has not ended.
    standing: HashMap<u64, Entry>,
    /// Where a job of this id stands.
    places: HashMap<JobId, u64>,
    results: HashMap<JobId, JobResult>,
    /// Results in the order of their arrival, with their jobs' places: a later job of the same id may have another.
    order: VecDeque<(Instant, u64, JobId)>,
}

impl Book {
    /// Takes a job in. The same id twice is the same job, as long as it is known and was not cancelled.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(super) fn accept(&mut self, submission: &Submission, settings: &Settings) -> Result<u64, Refusal> {
        let id = &submission.job.id;
        if let Some(sequence) = self.places.get(id) {
            return Ok(*sequence);
        }
        if let Some(result) = self.result(id, settings)
            && result.outcome != Outcome::Cancelled
        {
            return Ok(result.job_sequence);
        }
        let waiting: usize = self.waiting.values().map(BTreeSet::len).sum();
        if waiting >= settings.max_jobs {
            return Err(Refusal::new(
                ErrorCode::QueueFull,
                format!("{waiting} jobs are waiting; no more are taken at the moment"),
            ));
        }
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let entry = Entry {
            submission: Arc::new(submission.clone()),
            submitted_at: clock::now(),
            cancelled: CancellationToken::new(),
        };
        let lane = self.waiting.entry(submission.subject.lane).or_default();
        lane.insert(sequence);
        self.places.insert(id.clone(), sequence);
        self.standing.insert(sequence, entry);
        Ok(sequence)
    }

    /// The next job for the worker: lanes by weight, each in order.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let lane = self.next_lane()?;
        let sequence = self.waiting.get_mut(&lane)?.pop_first()?;
        if let Some(credit) = self.credits.get_mut(&lane) {
            *credit = credit.saturating_sub(1);
        }
        let entry = self.standing.get(&sequence)?;
        Some(Taken {
            sequence,
            submission: entry.submission.clone(),
            submitted_at: entry.submitted_at,
            cancelled: entry.cancelled.clone(),
        })
    }

    /// The highest lane that has something and may still take in this round; a new round when none may.
    fn next_lane(&mut self) -> Option<Lane> {
        for _ in 0..2 {
            for lane in Lane::ALL.iter().copied() {
                let has_some = self.waiting.get(&lane).is_some_and(|waiting| !waiting.is_empty());
                if has_some && self.credits.get(&lane).is_some_and(|credit| *credit > 0) {
                    return Some(lane);
                }
            }
            self.credits = Lane::ALL.iter().map(|lane| (*lane, lane.weight())).collect();
        }
        None
    }

    /// Stores the result of the job at `sequence`, unless it was ended before: the first one wins. What is kept.
    pub(super) fn store(
        &mut self,
        sequence: u64,
        result: &JobResult,
        settings: &Settings,
    ) -> Option<JobResult> {
        self.leave(sequence)?;
        // Texts are not kept: whoever asks has them.
        let kept = JobResult {
            text: String::new(),
            reference: None,
            ..result.clone()
        };
        self.results.insert(kept.id.clone(), kept.clone());
        let now = Instant::now();
        self.order.push_back((now, kept.job_sequence, kept.id.clone()));
        self.forget(now, settings);
        Some(kept)
    }

    /// Ends the job of the handle without the worker, which leaves it if it has it.
    pub(super) fn end(
        &mut self,
        handle: &JobHandle,
        termination: &Termination,
        settings: &Settings,
    ) -> Option<TerminationOutcome> {
        let sequence = handle.sequence?;
        let Some(entry) = self.standing.get(&sequence) else {
            let before = self.result(&handle.id, settings)?;
            return (!before.gives_way_to(sequence))
                .then(|| TerminationOutcome::AlreadyFinished(Box::new(before)));
        };
        let Submission { subject, job, .. } = &*entry.submission;
        if job.id != handle.id {
            return None;
        }
        let job = RawJob {
            subject: &subject.to_string(),
            // A job has been read from JSON, or made of texts and numbers.
            body: &serde_json::to_vec(job).unwrap_or_default(),
            sequence,
            submitted_at: entry.submitted_at,
        };
        let record = answer(job, termination, clock::now())?;
        entry.cancelled.cancel();
        self.store(sequence, &record, settings)
            .map(|record| TerminationOutcome::Terminated(Box::new(record)))
    }

    /// Takes what stands at `sequence` off.
    fn leave(&mut self, sequence: u64) -> Option<()> {
        let entry = self.standing.remove(&sequence)?;
        self.places.remove(&entry.submission.job.id);
        if let Some(waiting) = self.waiting.get_mut(&entry.submission.subject.lane) {
            waiting.remove(&sequence);
        }
        Some(())
    }

    /// The result of a job, if it is still kept.
    pub(super) fn result(&mut self, id: &JobId, settings: &Settings) -> Option<JobResult> {
        self.forget(Instant::now(), settings);
        self.results.get(id).cloned()
    }

    /// Forgets results that are too old, or too many.
    fn forget(&mut self, now: Instant, settings: &Settings) {
        let longest = Duration::from_secs(settings.result_ttl_seconds);
        while let Some((at, sequence, id)) = self.order.front()
            && (self.order.len() > settings.max_results || now.duration_since(*at) >= longest)
        {
            if self
                .results
                .get(id)
                .is_some_and(|result| result.job_sequence == *sequence)
            {
                self.results.remove(id);
            }
            self.order.pop_front();
        }
    }

    /// The job at a place.
    pub(super) fn queued_job(&self, sequence: u64) -> Option<QueuedJob> {
        let entry = self.standing.get(&sequence)?;
        Some(QueuedJob {
            id: entry.submission.job.id.clone(),
            subject: entry.submission.subject.clone(),
            submitted_at: Some(entry.submitted_at),
            deadline: entry.submission.job.deadline,
        })
    }

    /// How many jobs of a tenant wait or run.
    pub(super) fn count_of(&self, tenant: &Token) -> usize {
        let of_tenant = |entry: &&Entry| entry.submission.subject.tenant == *tenant;
        self.standing.values().filter(of_tenant).count()
    }

    /// Whether no job waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.standing.is_empty()
    }

    /// How much waits for the one model.
    pub(super) fn depth(&self, model: &Token) -> QueueDepth {
        let lane = |lane: Lane| {
            let waiting = self.waiting.get(&lane);
            LaneDepth {
                model: model.clone(),
                lane,
                delivered: waiting
                    .and_then(BTreeSet::first)
                    .map_or(self.last_sequence, |first| first - 1),
                pending: waiting.map_or(0, |waiting| waiting.len() as u64),
            }
        };
        QueueDepth {
            last_sequence: self.last_sequence,
            lanes: Lane::ALL.iter().copied().map(lane).collect(),
        }
    }
}
