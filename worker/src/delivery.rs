//! Jobs as they are delivered to this worker.

use std::time::Duration;

use jiff::Timestamp;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::{JobId, time};

use crate::lease::Lease;

/// A job that was delivered to this worker.
pub struct Fetched {
    /// Subject, headers and body.
    pub message: async_nats::Message,
    /// The delivery.
    pub delivery: Delivery,
    /// The worker's hold on the job.
    pub lease: Lease,
}

/// One delivery of a job.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Sequence of the job in `JOBS`.
    pub sequence: u64,
    /// Number of this delivery, starting at 1.
    pub attempt: u64,
    /// How many earlier deliveries stopping workers handed back.
    pub hand_backs: u64,
    /// When the stream stored the job.
    pub submitted_at: Timestamp,
    /// When this worker received the job.
    pub received_at: Timestamp,
    /// The trace of the request that submitted the job.
    pub trace: Option<TraceContext>,
    /// The span of the fetch that delivered the job, while traces are exported.
    pub fetch_span: Option<TraceContext>,
}

/// A job that waited longer in the queue may have ended there: its consumer was replaced, or its client cancelled it.
const MAX_WAIT_WITHOUT_RESULT: Duration = Duration::from_secs(60);
/// Largest difference between the time in a new id and the time at which its job was queued. The stream recognizes a
/// repeated id for longer than this.
const MAX_AGE_OF_NEW_ID: Duration = Duration::from_secs(60);

impl Delivery {
    /// Returns the number of this delivery without those that were handed back, starting at 1.
    pub fn counted_attempt(&self) -> u64 {
        self.attempt.saturating_sub(self.hand_backs).max(1)
    }

    /// Returns whether the job may have a result already, so that looking for it is worth a request.
    ///
    /// A new job has none: it is delivered for the first time, soon after it was queued, and its id was generated just
    /// before.
    pub fn may_have_result(&self, id: &JobId) -> bool {
        let waited = time::millis_between(self.submitted_at, self.received_at);
        self.attempt > 1
            || waited > MAX_WAIT_WITHOUT_RESULT.as_secs_f64() * 1e3
            || !is_new(id, self.submitted_at)
    }
}

/// Returns whether `id` was generated about when its job was queued: a UUID of version 7 contains its time.
fn is_new(id: &JobId, submitted_at: Timestamp) -> bool {
    let Some(time) = uuid::Uuid::try_parse(id.as_str())
        .ok()
        .filter(|uuid| uuid.get_version_num() == 7)
        .and_then(|uuid| uuid.get_timestamp())
    else {
        return false;
    };
    let (seconds, nanoseconds) = time.to_unix();
    let generated = i64::try_from(seconds)
        .ok()
        .zip(i32::try_from(nanoseconds).ok())
        .and_then(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds).ok());
    generated
        .is_some_and(|generated| submitted_at.duration_since(generated).unsigned_abs() < MAX_AGE_OF_NEW_ID)
}

#[cfg(test)]
pub(crate) mod tests {
    use precis_runtime::clock;

    use super::*;

    pub(crate) fn delivery(attempt: u64, hand_backs: u64) -> Delivery {
        let now = clock::now();
        Delivery {
            sequence: 7,
            attempt,
            hand_backs,
            submitted_at: now,
            received_at: now,
            trace: None,
            fetch_span: None,
        }
    }

    #[test]
    fn handed_back_deliveries_do_not_count() {
        assert_eq!(delivery(1, 0).counted_attempt(), 1);
        assert_eq!(delivery(12, 9).counted_attempt(), 3);
        assert_eq!(delivery(2, 5).counted_attempt(), 1, "a stale record");
    }

    #[test]
    fn only_a_new_job_needs_no_lookup_of_its_result() {
        let new = JobId::generate();
        assert!(!delivery(1, 0).may_have_result(&new));
        assert!(delivery(2, 0).may_have_result(&new));
        assert!(delivery(2, 1).may_have_result(&new));
        let chosen: JobId = "article-7".parse().unwrap();
        assert!(delivery(1, 0).may_have_result(&chosen));
        let random: JobId = "f47ac10b58cc4372a5670e02b2c3d479".parse().unwrap();
        assert!(delivery(1, 0).may_have_result(&random));
        let mut late = delivery(1, 0);
        late.received_at = late.submitted_at + Duration::from_secs(61);
        assert!(late.may_have_result(&new));
        // Submitted again, long after its id was generated.
        let mut again = late;
        again.submitted_at = again.received_at;
        assert!(again.may_have_result(&new));
    }
}
