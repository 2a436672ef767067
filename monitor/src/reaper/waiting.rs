//! What the reaper knows about the waiting jobs of a subject. It reads each of them once, however often it sweeps.

use std::collections::{BTreeMap, HashMap, HashSet};

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

/// The waiting jobs of several subjects.
#[derive(Debug, Default)]
pub(super) struct WaitingSubjects {
    subjects: HashMap<String, WaitingJobs>,
    /// The stream's last sequence at the latest sweep.
    last_sequence: u64,
}

impl WaitingSubjects {
    /// Begins a sweep of a stream with this last sequence. Forgets every job if the stream was created anew, because it
    /// then numbers other jobs from 1.
    pub(super) fn begin_sweep(&mut self, last_sequence: u64) {
        if last_sequence < self.last_sequence {
            self.subjects.clear();
        }
        self.last_sequence = last_sequence;
    }

    /// Returns the jobs of a subject.
    pub(super) fn of_subject(&mut self, subject: &str) -> &mut WaitingJobs {
        self.subjects.entry(subject.to_owned()).or_default()
    }

    /// Forgets the jobs of all other subjects.
    pub(super) fn retain(&mut self, subjects: &HashSet<String>) {
        self.subjects.retain(|subject, _| subjects.contains(subject));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_was_created_anew_is_read_from_its_start() {
        let job = WaitingJob {
            queued_at: Timestamp::UNIX_EPOCH,
            deadline: None,
        };
        let mut waiting = WaitingSubjects::default();
        waiting.begin_sweep(9);
        waiting.of_subject("a").add(9, job);
        waiting.begin_sweep(9);
        assert_eq!(waiting.of_subject("a").next(), 10);
        waiting.begin_sweep(2);
        assert_eq!(waiting.of_subject("a").next(), 1);
    }

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
