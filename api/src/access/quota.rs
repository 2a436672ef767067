//! A limit on the jobs that a tenant has in the queue.
//!
//! The count comes from the queue, so it includes other replicas and direct publishers. Between two counts a replica
//! adds the jobs that it admits itself, and learns of others at the next count.

use std::time::Duration;

use precis_schemas::Token;
use precis_schemas::error_code::{ErrorCode, Refusal};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::queue::QueueBackend;

/// How long a count stays valid.
const MAX_AGE: Duration = Duration::from_millis(500);
/// Age from which a count is repeated before a request is rejected because of it.
const MIN_RECOUNT_AGE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Count {
    taken_at: Instant,
    jobs: u64,
}

/// A key's limit on queued jobs.
#[derive(Debug)]
pub(super) struct Quota {
    max_jobs: u64,
    last: Mutex<Option<Count>>,
}

impl Quota {
    /// Creates a quota of `max_jobs`.
    pub(super) fn new(max_jobs: u64) -> Self {
        Self {
            max_jobs,
            last: Mutex::new(None),
        }
    }

    /// Reserves `jobs`.
    ///
    /// # Errors
    /// [`ErrorCode::QuotaExceeded`] if the quota is used up, or an error of the queue.
    pub(super) async fn reserve(
        &self,
        queue: &dyn QueueBackend,
        tenant: &Token,
        jobs: u64,
    ) -> Result<(), Refusal> {
        let mut last = self.last.lock().await;
        let known = last
            .as_ref()
            .filter(|count| {
                let age = count.taken_at.elapsed();
                age < MIN_RECOUNT_AGE || (age < MAX_AGE && count.jobs + jobs <= self.max_jobs)
            })
            .map(|count| count.jobs);
        let now = match known {
            Some(now) => now,
            None => {
                let now = queue.count_jobs(tenant).await?;
                *last = Some(Count {
                    taken_at: Instant::now(),
                    jobs: now,
                });
                now
            }
        };
        if now + jobs > self.max_jobs {
            let max_jobs = self.max_jobs;
            return Err(Refusal::new(
                ErrorCode::QuotaExceeded,
                format!("{now} jobs of `{tenant}` are in the queue; this key may have {max_jobs}"),
            ));
        }
        if let Some(count) = &mut *last {
            count.jobs += jobs;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeQueue;

    #[tokio::test(start_paused = true)]
    async fn admitted_jobs_count_until_the_queue_is_counted_again() {
        let queue = FakeQueue::default();
        let quota = Quota::new(3);
        let tenant = Token::sanitized("acme");
        let reserve = async |jobs| quota.reserve(&queue, &tenant, jobs).await;
        assert!(reserve(2).await.is_ok());
        assert_eq!(reserve(2).await.unwrap_err().code, ErrorCode::QuotaExceeded);
        assert!(reserve(1).await.is_ok());
        assert_eq!(reserve(1).await.unwrap_err().code, ErrorCode::QuotaExceeded);
        // The queue is empty by now.
        tokio::time::sleep(MIN_RECOUNT_AGE).await;
        assert!(reserve(3).await.is_ok());
    }
}
