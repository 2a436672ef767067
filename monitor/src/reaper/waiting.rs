//! What the reaper knows about the waiting jobs of a subject. It reads each of them once, however often it sweeps.

use std::collections::BTreeMap;

use async_nats::jetstream::message::StreamMessage;
use jiff::Timestamp;
use precis_schemas::Job;

use crate::consumer::timestamp;

/// When a waiting job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitingJob {
    /// When the stream stored it.
    pub(super) queued_at: Timestamp,
    /// Its deadline.
    pub(super) deadline: Option<Timestamp>,
}

impl WaitingJob {
    pub(super) fn of(message: &StreamMessage) -> Self {
        Self {
            queued_at: timestamp(message.time),
            deadline: Job::from_json(&message.payload).ok().and_then(|job| job.deadline),
        }
    }
}

/// The waiting jobs of one subject, by sequence.
#[derive(Debug)]
pub(super) struct WaitingJobs {
    jobs: BTreeMap<u64, WaitingJob>,
    /// The lowest sequence that was not read.
    next: u64,
}

impl Default for WaitingJobs {
    fn default() -> Self {
        Self {
            jobs: BTreeMap::new(),
            next: 1,
        }
    }
}

impl WaitingJobs {
    /// Returns the lowest sequence that was not read.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Adds a job that was read.
    pub(super) fn add(&mut self, sequence: u64, job: WaitingJob) {
        self.jobs.insert(sequence, job);
        self.next = self.next.max(sequence + 1);
    }

    /// Forgets a job that has left the queue.
    pub(super) fn remove(&mut self, sequence: u64) {
        self.jobs.remove(&sequence);
    }

    /// Returns the jobs for which `is_due` holds, oldest first.
    pub(super) fn due(&self, is_due: impl Fn(&WaitingJob) -> bool) -> Vec<u64> {
        let due = self.jobs.iter().filter(|(_, job)| is_due(job));
        due.map(|(sequence, _)| *sequence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_is_read_once_and_due_jobs_are_found_again() {
        let at = |time: &str| -> Timestamp { time.parse().unwrap() };
        let job = |deadline: Option<&str>| WaitingJob {
            queued_at: at("2026-11-23T13:00:00Z"),
            deadline: deadline.map(at),
        };
        let mut waiting = WaitingJobs::default();
        assert_eq!(waiting.next(), 1);
        waiting.add(4, job(None));
        waiting.add(9, job(Some("2026-11-23T13:01:00Z")));
        assert_eq!(waiting.next(), 10);
        let expired = |now: &str| waiting.due(|job| job.deadline.is_some_and(|deadline| deadline <= at(now)));
        assert!(expired("2026-11-23T13:00:59Z").is_empty());
        assert_eq!(expired("2026-11-23T13:01:00Z"), [9]);
        waiting.remove(9);
        assert_eq!((waiting.next(), waiting.due(|_| true)), (10, vec![4]));
    }
}
