//! The share of the queue that each lane may fill, so that uploads leave room for interactive jobs.
//!
//! The check is approximate: other gateways and direct publishers are counted up to five seconds late while the queue is
//! less than half as full as the lane may make it, and half a second late otherwise. The limits of the stream are exact.

use precis_runtime::config::QueueConfig;
use precis_schemas::Lane;
use precis_schemas::error_code::{ErrorCode, Refusal};

use super::QueueBackend;
use super::counted::{Counted, Reservation};

/// Admits jobs to lanes while the queue has room for them.
#[derive(Debug)]
pub(crate) struct LaneShares {
    limits: QueueConfig,
    queued: Counted,
}

impl LaneShares {
    /// Creates shares of a queue with these limits.
    pub(crate) fn new(limits: &QueueConfig) -> Self {
        Self {
            limits: limits.clone(),
            queued: Counted::rough(),
        }
    }

    /// Admits one job to a lane.
    ///
    /// # Errors
    /// [`ErrorCode::QueueFull`] if the rest of the room is kept for other lanes, or an error of the queue.
    pub(crate) async fn admit(&self, queue: &dyn QueueBackend, lane: Lane) -> Result<(), Refusal> {
        self.reserve(queue, lane, false).await
    }

    /// Admits one row of an upload. Rows of every lane get no more room than the lane `bulk`.
    ///
    /// # Errors
    /// As [`LaneShares::admit`].
    pub(crate) async fn admit_row(&self, queue: &dyn QueueBackend, lane: Lane) -> Result<(), Refusal> {
        self.reserve(queue, lane, true).await
    }

    async fn reserve(&self, queue: &dyn QueueBackend, lane: Lane, is_upload: bool) -> Result<(), Refusal> {
        let limits = &self.limits;
        let max = limits.max_jobs_of(lane, is_upload);
        if max >= limits.max_jobs {
            return Ok(());
        }
        let count = || async move { Ok(jobs_or_bytes(queue.usage().await?, limits)) };
        match self.queued.reserve(1, max, count).await? {
            Reservation::Admitted => Ok(()),
            Reservation::NoRoom(present) => {
                let percent = |jobs| jobs * 100 / limits.max_jobs;
                let what = match is_upload {
                    true => "rows of uploads".to_owned(),
                    false => format!("jobs of the lane {lane}"),
                };
                Err(Refusal::new(
                    ErrorCode::QueueFull,
                    format!(
                        "the queue is {} % full; {what} may fill it to {} %",
                        percent(present),
                        percent(max)
                    ),
                ))
            }
        }
    }
}

/// Returns the number of queued jobs, or the number that would make the queue as full as its bytes do.
fn jobs_or_bytes(usage: super::QueueUsage, limits: &QueueConfig) -> u64 {
    let by_bytes =
        u128::from(usage.bytes) * u128::from(limits.max_jobs) / u128::from(limits.max_bytes.max(1));
    usage.jobs.max(u64::try_from(by_bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::QueueUsage;
    use crate::testing::FakeQueue;

    fn limits() -> QueueConfig {
        QueueConfig {
            max_jobs: 100,
            max_bytes: 1_000,
            ..QueueConfig::default()
        }
    }

    /// Returns whether each kind of job is admitted: rows of an urgent upload, bulk, normal and high jobs.
    async fn admitted(usage: QueueUsage) -> [bool; 4] {
        let queue = FakeQueue::default();
        *queue.usage.lock().unwrap() = usage;
        let shares = LaneShares::new(&limits());
        let is_admitted = |outcome: Result<(), Refusal>| match outcome {
            Ok(()) => true,
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::QueueFull);
                false
            }
        };
        [
            is_admitted(shares.admit_row(&queue, Lane::High).await),
            is_admitted(shares.admit(&queue, Lane::Bulk).await),
            is_admitted(shares.admit(&queue, Lane::Normal).await),
            is_admitted(shares.admit(&queue, Lane::High).await),
        ]
    }

    #[tokio::test]
    async fn lanes_fill_the_queue_up_to_their_share() {
        let jobs = |jobs| QueueUsage { jobs, bytes: 0 };
        assert_eq!(admitted(jobs(78)).await, [true; 4]);
        assert_eq!(admitted(jobs(80)).await, [false, false, true, true]);
        assert_eq!(admitted(jobs(95)).await, [false, false, false, true]);
        // The stream refuses jobs beyond its limit.
        assert_eq!(admitted(jobs(100)).await, [false, false, false, true]);
    }

    #[tokio::test]
    async fn large_jobs_fill_the_queue_by_their_bytes() {
        let bytes = |bytes| QueueUsage { jobs: 1, bytes };
        assert_eq!(admitted(bytes(780)).await, [true; 4]);
        assert_eq!(admitted(bytes(960)).await, [false, false, false, true]);
    }

    #[tokio::test]
    async fn a_refusal_says_how_full_the_queue_is() {
        let queue = FakeQueue::default();
        queue.usage.lock().unwrap().jobs = 83;
        let shares = LaneShares::new(&limits());
        let refusal = shares.admit(&queue, Lane::Bulk).await.unwrap_err();
        assert_eq!(
            refusal.message,
            "the queue is 83 % full; jobs of the lane bulk may fill it to 80 %"
        );
    }
}
