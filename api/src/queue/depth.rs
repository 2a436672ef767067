//! Queue depth: how many jobs wait in each lane, and in each tenant's part of a lane.

use std::collections::HashMap;

use precis_schemas::{JobSubject, Lane, Token};

/// The queue depth of one model's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDepth {
    /// The model.
    pub model: Token,
    /// The lane.
    pub lane: Lane,
    /// The number of jobs that wait or run.
    pub jobs: u64,
    /// The jobs of each tenant, if workers serve the lane's tenants in turn. Empty if they serve jobs in their order.
    pub tenants: HashMap<Token, u64>,
}

/// A snapshot of the queue depth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// The last sequence in the queue, read before the lanes.
    pub last_sequence: u64,
    /// Every lane of every model that workers have served.
    pub lanes: Vec<LaneDepth>,
}

impl QueueDepth {
    /// Returns whether workers have served `model`. They may all be offline now.
    pub(crate) fn has_consumers_of(&self, model: &Token) -> bool {
        self.lanes.iter().any(|lane| lane.model == *model)
    }

    /// Returns whether workers have served the subject's lane.
    pub(crate) fn serves(&self, subject: &JobSubject) -> bool {
        self.lanes
            .iter()
            .any(|lane| lane.model == subject.model && lane.lane == subject.lane)
    }
}

/// The queue depth of one tenant's jobs in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantDepth {
    /// The last sequence in the queue, read before the other numbers.
    pub last_sequence: u64,
    /// Every job of the tenant up to this sequence has been delivered at least once or has ended.
    pub delivered: u64,
    /// The number of jobs that have not been delivered.
    pub pending: u64,
}

impl TenantDepth {
    /// Estimates the number of the tenant's jobs ahead of the one at `sequence`, in its lane.
    ///
    /// It is rather too high than too low: deliveries since the snapshot still count, and so does every job that anybody
    /// has published since. Jobs that are delivered again can make it too low.
    pub(crate) fn position(&self, sequence: u64) -> u64 {
        let undelivered = sequence.saturating_sub(self.delivered).saturating_sub(1);
        let waiting = if sequence <= self.last_sequence {
            // `pending` includes the job itself.
            self.pending.saturating_sub(1)
        } else {
            self.pending + (sequence - self.last_sequence - 1)
        };
        undelivered.min(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_the_jobs_of_the_tenant_that_may_be_ahead() {
        let position = |last_sequence, delivered, pending, sequence| {
            let depth = TenantDepth {
                last_sequence,
                delivered,
                pending,
            };
            depth.position(sequence)
        };
        // Already delivered.
        assert_eq!(position(10, 7, 3, 7), 0);
        // Next in line.
        assert_eq!(position(10, 7, 3, 8), 0);
        // Last of three. Jobs of other lanes and tenants in between don't count.
        assert_eq!(position(10, 7, 3, 10), 2);
        assert_eq!(position(1_000, 7, 3, 1_000), 2);
        // Published after the snapshot: three jobs were pending, and two more may be ahead.
        assert_eq!(position(10, 7, 3, 13), 5);
        assert_eq!(position(10, 10, 0, 11), 0);
    }
}
