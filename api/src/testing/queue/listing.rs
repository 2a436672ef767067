//! The jobs of the queue by filter.

use super::FakeQueue;
use crate::queue::{JobFilter, ListedJob, QueuedJob};

impl FakeQueue {
    /// Returns the jobs that have not left the queue and match, after this sequence.
    pub(super) fn listed(&self, filter: &JobFilter, after: u64, limit: usize) -> Vec<ListedJob> {
        let done = self.done.lock().unwrap();
        let jobs = self.jobs.lock().unwrap();
        let listed = jobs.iter().zip(1..).filter(|(submission, sequence)| {
            let subject = &submission.subject;
            *sequence > after
                && !done.contains(sequence)
                && filter.lane.is_none_or(|lane| lane == subject.lane)
                && filter
                    .tenant
                    .as_ref()
                    .is_none_or(|tenant| *tenant == subject.tenant)
        });
        let listed = listed.take(limit).map(|(submission, sequence)| ListedJob {
            sequence,
            job: QueuedJob {
                id: submission.job.id.clone(),
                subject: submission.subject.clone(),
                submitted_at: None,
                deadline: submission.job.deadline,
                metadata: submission.job.metadata.clone(),
            },
            text: submission.job.text.clone(),
        });
        listed.collect()
    }
}
