//! How much stands in the queue, asked for at most once a second.

use std::time::Duration;

use precis_schemas::error_code::Refusal;
use precis_schemas::{JobSubject, Lane, Token};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::queue::QueueBackend;

/// How long an answer counts as the present.
const FRESH: Duration = Duration::from_secs(1);

/// What waits before the workers of one model, in one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneDepth {
    /// The model.
    pub(crate) model: Token,
    /// The lane.
    pub(crate) lane: Lane,
    /// Everything up to this sequence has been handed to a worker at least once.
    pub(crate) delivered: u64,
    /// Jobs that no worker has been handed yet.
    pub(crate) pending: u64,
}

/// A look at the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Sequence of the last job that the queue had taken before the lanes were looked at.
    pub(crate) last_sequence: u64,
    /// Every lane of every model whose workers have set up their consumers.
    pub(crate) lanes: Vec<LaneDepth>,
}

impl Depth {
    /// At most this many jobs are before the one at `sequence`; none when nobody reads its lane.
    ///
    /// Holds although the look may be a moment old: what was delivered since then only makes the bound
    /// generous, and what was published since then and comes before the job is counted in full.
    pub(crate) fn position(&self, subject: &JobSubject, sequence: u64) -> Option<u64> {
        let lane = self
            .lanes
            .iter()
            .find(|depth| depth.model == subject.model && depth.lane == subject.lane)?;
        let undelivered = sequence.saturating_sub(lane.delivered).saturating_sub(1);
        let waiting = if sequence <= self.last_sequence {
            // It is among those that wait.
            lane.pending.saturating_sub(1)
        } else {
            lane.pending + (sequence - self.last_sequence - 1)
        };
        Some(undelivered.min(waiting))
    }

    /// Everything up to this sequence has been handed to a worker of the subject's lane at least once; none when
    /// nobody reads the lane.
    pub(crate) fn delivered(&self, subject: &JobSubject) -> Option<u64> {
        self.lanes
            .iter()
            .find(|depth| depth.model == subject.model && depth.lane == subject.lane)
            .map(|depth| depth.delivered)
    }

    /// True when workers have set up consumers for `model`, although none may be alive at the moment.
    pub(crate) fn has_consumers_of(&self, model: &Token) -> bool {
        self.lanes.iter().any(|depth| depth.model == *model)
    }
}

/// The last look at the queue, shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct DepthCache {
    last: Mutex<Option<(Instant, Result<Depth, Refusal>)>>,
}

impl DepthCache {
    /// A look at the queue that is at most a second old. Who comes while somebody asks waits for that
    /// answer, also when it is an error, so that a slow server is not asked by everybody in turn.
    pub(crate) async fn get(&self, queue: &dyn QueueBackend) -> Result<Depth, Refusal> {
        let mut last = self.last.lock().await;
        if let Some((at, depth)) = &*last
            && at.elapsed() < FRESH
        {
            return depth.clone();
        }
        let depth = queue.depth().await;
        *last = Some((Instant::now(), depth.clone()));
        depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_never_too_low() {
        let subject: JobSubject = "jobs.v1.default.normal.summarize.public".parse().unwrap();
        let depth = |last_sequence, delivered, pending| Depth {
            last_sequence,
            lanes: vec![LaneDepth {
                model: subject.model.clone(),
                lane: subject.lane,
                delivered,
                pending,
            }],
        };
        // Handed to a worker already.
        assert_eq!(depth(10, 7, 3).position(&subject, 7), Some(0));
        // Next.
        assert_eq!(depth(10, 7, 3).position(&subject, 8), Some(0));
        // Last of three; another lane's jobs between don't count.
        assert_eq!(depth(10, 7, 3).position(&subject, 10), Some(2));
        assert_eq!(depth(1_000, 7, 3).position(&subject, 1_000), Some(2));
        // Published after the look: three waited, and two more may have come before it.
        assert_eq!(depth(10, 7, 3).position(&subject, 13), Some(5));
        assert_eq!(depth(10, 10, 0).position(&subject, 11), Some(0));
        let other: JobSubject = "jobs.v1.default.high.summarize.public".parse().unwrap();
        assert_eq!(depth(10, 7, 3).position(&other, 8), None);
    }
}
