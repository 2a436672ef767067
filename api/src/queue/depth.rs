//! Queue depth: how many jobs wait in each lane.

use precis_schemas::{JobSubject, Lane, Token};

/// The queue depth of one model's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDepth {
    /// The model.
    pub model: Token,
    /// The lane.
    pub lane: Lane,
    /// Every job up to this sequence has been delivered at least once.
    pub delivered: u64,
    /// The number of jobs that have not been delivered.
    pub pending: u64,
}

/// A snapshot of the queue depth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// The last sequence in the queue, read before the lanes.
    pub last_sequence: u64,
    /// Every lane of every model whose workers have created consumers.
    pub lanes: Vec<LaneDepth>,
}

impl QueueDepth {
    /// Returns an upper bound for the number of jobs ahead of the one at `sequence`, or `None` if no worker reads its
    /// lane.
    ///
    /// The bound holds for a stale snapshot too. Deliveries since then only make it generous. Jobs published since then
    /// count in full.
    pub(crate) fn position(&self, subject: &JobSubject, sequence: u64) -> Option<u64> {
        let lane = self.lane_of(subject)?;
        let undelivered = sequence.saturating_sub(lane.delivered).saturating_sub(1);
        let waiting = if sequence <= self.last_sequence {
            // `pending` includes the job itself.
            lane.pending.saturating_sub(1)
        } else {
            lane.pending + (sequence - self.last_sequence - 1)
        };
        Some(undelivered.min(waiting))
    }

    /// Returns the sequence up to which every job of the subject's lane has been delivered, or `None` if no worker
    /// reads the lane.
    pub(crate) fn delivered(&self, subject: &JobSubject) -> Option<u64> {
        self.lane_of(subject).map(|lane| lane.delivered)
    }

    /// Returns whether workers have created consumers for `model`. They may all be offline now.
    pub(crate) fn has_consumers_of(&self, model: &Token) -> bool {
        self.lanes.iter().any(|lane| lane.model == *model)
    }

    fn lane_of(&self, subject: &JobSubject) -> Option<&LaneDepth> {
        self.lanes
            .iter()
            .find(|lane| lane.model == subject.model && lane.lane == subject.lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_never_too_low() {
        let subject: JobSubject = "jobs.v1.default.normal.summarize.public".parse().unwrap();
        let depth = |last_sequence, delivered, pending| QueueDepth {
            last_sequence,
            lanes: vec![LaneDepth {
                model: subject.model.clone(),
                lane: subject.lane,
                delivered,
                pending,
            }],
        };
        // Already delivered.
        assert_eq!(depth(10, 7, 3).position(&subject, 7), Some(0));
        // Next in line.
        assert_eq!(depth(10, 7, 3).position(&subject, 8), Some(0));
        // Last of three. Jobs of other lanes in between don't count.
        assert_eq!(depth(10, 7, 3).position(&subject, 10), Some(2));
        assert_eq!(depth(1_000, 7, 3).position(&subject, 1_000), Some(2));
        // Published after the snapshot: three jobs were pending, and two more may be ahead.
        assert_eq!(depth(10, 7, 3).position(&subject, 13), Some(5));
        assert_eq!(depth(10, 10, 0).position(&subject, 11), Some(0));
        let other: JobSubject = "jobs.v1.default.high.summarize.public".parse().unwrap();
        assert_eq!(depth(10, 7, 3).position(&other, 8), None);
    }
}
