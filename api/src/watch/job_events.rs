//! Where a queue reports what happens to its jobs.

use bytes::Bytes;
use precis_schemas::JobId;
use precis_schemas::event::Progress;

use crate::watch::progress::Running;
use crate::watch::wait::Waiters;

/// Passes progress and results to the requests that wait for them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct JobEvents {
    waiters: Waiters,
    running: Running,
}

impl JobEvents {
    /// Reports that a job runs, perhaps with the text decoded so far.
    pub fn progress(&self, progress: Progress) {
        self.running.note(progress);
    }

    /// Reports that a job has ended. `result` is its stored [`JobResult`](precis_schemas::JobResult) as JSON.
    pub fn finished(&self, id: &JobId, result: Bytes) {
        self.running.forget(id);
        self.waiters.stored(id, result);
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }
}
