//! The table behind the queue in memory: unfinished jobs by lane, in order, and the results of finished ones.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use precis_api::queue::{LaneDepth, QueueDepth, QueuedJob, TenantDepth, TerminationOutcome};
use precis_producer::{Accepted, Submission};
use precis_runtime::clock;
use precis_runtime::config::LocalConfig;
use precis_runtime::expiring_map::ExpiringMap;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::termination::{RawJob, Termination, terminated_result};
use precis_schemas::{JobHandle, JobId, JobResult, Lane, Outcome, Token};
use tokio_util::sync::CancellationToken;

/// A job that waits or runs.
struct UnfinishedJob {
    submission: Arc<Submission>,
    submitted_at: Timestamp,
    cancelled: CancellationToken,
}

/// A job handed to the worker.
pub(crate) struct DeliveredJob {
    /// The job's position in the queue.
    pub(crate) sequence: u64,
    /// The job.
    pub(crate) submission: Arc<Submission>,
    /// When the queue accepted the job.
    pub(crate) submitted_at: Timestamp,
    /// Cancelled when the job is terminated.
    pub(crate) cancelled: CancellationToken,
}

/// Unfinished jobs and the results of finished ones.
pub(crate) struct JobTable {
    max_waiting: usize,
    last_sequence: u64,
    /// Sequences of waiting jobs, by lane.
    waiting: HashMap<Lane, BTreeSet<u64>>,
    /// How many more jobs each lane may deliver in this round.
    credits: HashMap<Lane, u32>,
    /// Waiting and running jobs.
    unfinished: HashMap<u64, UnfinishedJob>,
    /// Sequences of unfinished jobs, by id.
    sequences: HashMap<JobId, u64>,
    results: ExpiringMap<JobId, JobResult>,
}

impl JobTable {
    /// Creates an empty table.
    pub(crate) fn new(settings: &LocalConfig) -> Self {
        let result_ttl = Duration::from_secs(settings.result_ttl_seconds);
        Self {
            max_waiting: settings.max_jobs,
            last_sequence: 0,
            waiting: HashMap::new(),
            credits: HashMap::new(),
            unfinished: HashMap::new(),
            sequences: HashMap::new(),
            results: ExpiringMap::new(result_ttl, settings.max_results),
        }
    }

    /// Accepts a job. A known id is the same job, unless that job was cancelled.
    ///
    /// # Errors
    /// Returns [`ErrorCode::QueueFull`] when the maximum number of jobs waits.
    pub(crate) fn accept(&mut self, submission: &Submission) -> Result<Accepted, Refusal> {
        let id = &submission.job.id;
        let accepted = |sequence, duplicate| Accepted {
            handle: JobHandle {
                id: id.clone(),
                sequence: Some(sequence),
            },
            duplicate,
        };
        if let Some(sequence) = self.sequences.get(id) {
            return Ok(accepted(*sequence, true));
        }
        if let Some(result) = self.result(id)
            && result.outcome != Outcome::Cancelled
        {
            return Ok(accepted(result.job_sequence, true));
        }
        let waiting: usize = self.waiting.values().map(BTreeSet::len).sum();
        if waiting >= self.max_waiting {
            return Err(Refusal::new(
                ErrorCode::QueueFull,
                format!("the queue is full: {waiting} jobs are waiting"),
            ));
        }
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let job = UnfinishedJob {
            submission: Arc::new(submission.clone()),
            submitted_at: clock::now(),
            cancelled: CancellationToken::new(),
        };
        let lane = self.waiting.entry(submission.subject.lane).or_default();
        lane.insert(sequence);
        self.sequences.insert(id.clone(), sequence);
        self.unfinished.insert(sequence, job);
        Ok(accepted(sequence, false))
    }

    /// Delivers the next job: lanes by weight, each in order.
    pub(crate) fn deliver(&mut self) -> Option<DeliveredJob> {
        let lane = self.next_lane()?;
        let sequence = self.waiting.get_mut(&lane)?.pop_first()?;
        if let Some(credit) = self.credits.get_mut(&lane) {
            *credit = credit.saturating_sub(1);
        }
        let job = self.unfinished.get(&sequence)?;
        Some(DeliveredJob {
            sequence,
            submission: job.submission.clone(),
            submitted_at: job.submitted_at,
            cancelled: job.cancelled.clone(),
        })
    }

    /// Returns the highest lane that has waiting jobs and credit. Starts a new round when no lane has both.
    fn next_lane(&mut self) -> Option<Lane> {
        for _ in 0..2 {
            for lane in Lane::ALL.iter().copied() {
                let has_jobs = self.waiting.get(&lane).is_some_and(|waiting| !waiting.is_empty());
                if has_jobs && self.credits.get(&lane).is_some_and(|credit| *credit > 0) {
                    return Some(lane);
                }
            }
            self.credits = Lane::ALL.iter().map(|lane| (*lane, lane.weight())).collect();
        }
        None
    }

    /// Stores the result of the job at `sequence` and returns it as stored. Does nothing if the job has already ended.
    pub(crate) fn store(&mut self, sequence: u64, result: &JobResult) -> Option<JobResult> {
        self.remove(sequence)?;
        // The client has the text and the reference, so they would only take up memory.
        let stored = JobResult {
            text: String::new(),
            reference: None,
            ..result.clone()
        };
        self.results.insert(stored.id.clone(), stored.clone());
        Some(stored)
    }

    /// Ends the job that the handle names. A running job's worker is told to stop.
    pub(crate) fn terminate(
        &mut self,
        handle: &JobHandle,
        termination: &Termination,
    ) -> Option<TerminationOutcome> {
        let sequence = handle.sequence?;
        let Some(unfinished) = self.unfinished.get(&sequence) else {
            let earlier = self.result(&handle.id)?;
            return (!earlier.is_superseded_by(sequence))
                .then(|| TerminationOutcome::AlreadyFinished(Box::new(earlier)));
        };
        let Submission { subject, job, .. } = &*unfinished.submission;
        if job.id != handle.id {
            return None;
        }
        let job = RawJob {
            subject: &subject.to_string(),
            // A job came from JSON, or consists of strings and numbers: it always serializes.
            body: &serde_json::to_vec(job).unwrap_or_default(),
            sequence,
            submitted_at: unfinished.submitted_at,
        };
        let record = terminated_result(job, termination, clock::now())?;
        unfinished.cancelled.cancel();
        self.store(sequence, &record)
            .map(|record| TerminationOutcome::Terminated(Box::new(record)))
    }

    /// Removes the job at `sequence` from the unfinished ones.
    fn remove(&mut self, sequence: u64) -> Option<()> {
        let job = self.unfinished.remove(&sequence)?;
        self.sequences.remove(&job.submission.job.id);
        if let Some(waiting) = self.waiting.get_mut(&job.submission.subject.lane) {
            waiting.remove(&sequence);
        }
        Some(())
    }

    /// Returns the result of a job, unless it has expired.
    pub(crate) fn result(&self, id: &JobId) -> Option<JobResult> {
        self.results.get(id)
    }

    /// Returns the unfinished job at `sequence`.
    pub(crate) fn queued_job(&self, sequence: u64) -> Option<QueuedJob> {
        let job = self.unfinished.get(&sequence)?;
        Some(QueuedJob {
            id: job.submission.job.id.clone(),
            subject: job.submission.subject.clone(),
            submitted_at: Some(job.submitted_at),
            deadline: job.submission.job.deadline,
            metadata: job.submission.job.metadata.clone(),
        })
    }

    /// Returns the number of a tenant's jobs that wait or run.
    pub(crate) fn count_jobs(&self, tenant: &Token) -> usize {
        let jobs = self.unfinished.values();
        jobs.filter(|job| job.submission.subject.tenant == *tenant)
            .count()
    }

    /// Returns whether no job waits or runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Returns the queue depth of the one model's lanes.
    pub(crate) fn depth(&self, model: &Token) -> QueueDepth {
        let lane = |lane: Lane| LaneDepth {
            model: model.clone(),
            lane,
            jobs: self.waiting.get(&lane).map_or(0, |waiting| waiting.len() as u64),
            // Jobs of a lane are served in their order.
            tenants: HashMap::new(),
        };
        QueueDepth {
            last_sequence: self.last_sequence,
            lanes: Lane::ALL.iter().copied().map(lane).collect(),
        }
    }

    /// Returns the queue depth of a lane as every tenant sees it: jobs of a lane are served in their order.
    pub(crate) fn lane_depth(&self, lane: Lane) -> TenantDepth {
        let waiting = self.waiting.get(&lane);
        TenantDepth {
            last_sequence: self.last_sequence,
            delivered: waiting
                .and_then(BTreeSet::first)
                .map_or(self.last_sequence, |first| first - 1),
            pending: waiting.map_or(0, |waiting| waiting.len() as u64),
        }
    }
}
