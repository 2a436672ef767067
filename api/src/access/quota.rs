//! A limit on the jobs that a tenant has in the queue.

use precis_schemas::Token;
use precis_schemas::error_code::{ErrorCode, Refusal};

use crate::queue::QueueBackend;
use crate::queue::counted::{Counted, Reservation};

/// A key's limit on queued jobs.
#[derive(Debug)]
pub(super) struct Quota {
    max_jobs: u64,
    jobs: Counted,
}

impl Quota {
    /// Creates a quota of `max_jobs`.
    pub(super) fn new(max_jobs: u64) -> Self {
        Self {
            max_jobs,
            jobs: Counted::default(),
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
        let max_jobs = self.max_jobs;
        let outcome = self
            .jobs
            .reserve(jobs, max_jobs, || queue.count_jobs(tenant))
            .await?;
        match outcome {
            Reservation::Admitted => Ok(()),
            Reservation::NoRoom(present) => Err(Refusal::new(
                ErrorCode::QuotaExceeded,
                format!("tenant `{tenant}` has {present} queued jobs; this key allows {max_jobs}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeQueue;

    #[tokio::test]
    async fn a_full_quota_is_refused_with_its_numbers() {
        let queue = FakeQueue::default();
        let quota = Quota::new(3);
        let tenant = Token::sanitized("acme");
        assert!(quota.reserve(&queue, &tenant, 2).await.is_ok());
        let refusal = quota.reserve(&queue, &tenant, 2).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::QuotaExceeded);
        assert!(refusal.message.contains("`acme` has 2 queued jobs"), "{refusal}");
        assert!(quota.reserve(&queue, &tenant, 1).await.is_ok());
    }
}
