//! How many jobs of a tenant may be in the queue at once.
//!
//! The queue itself is counted, so that all replicas and direct publishers are seen. Between two looks a
//! replica adds what it has let through itself; what others let through meanwhile is seen at the next.

use std::time::Duration;

use precis_schemas::Token;
use precis_schemas::error_code::{ErrorCode, Refusal};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::queue::QueueBackend;

/// How long a look counts as the present.
const FRESH: Duration = Duration::from_millis(500);
/// A look at least this old is repeated before anybody is refused because of it.
const STALE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Look {
    at: Instant,
    jobs: u64,
}

/// A key's share of the queue.
#[derive(Debug)]
pub(super) struct Quota {
    most: u64,
    last: Mutex<Option<Look>>,
}

impl Quota {
    /// At most so many jobs.
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            last: Mutex::new(None),
        }
    }

    /// Takes room for `jobs`.
    pub(super) async fn reserve(
        &self,
        queue: &dyn QueueBackend,
        tenant: &Token,
        jobs: u64,
    ) -> Result<(), Refusal> {
        let mut last = self.last.lock().await;
        let known = last
            .as_ref()
            .filter(|look| {
                let age = look.at.elapsed();
                age < STALE || (age < FRESH && look.jobs + jobs <= self.most)
            })
            .map(|look| look.jobs);
        let now = match known {
            Some(now) => now,
            None => {
                let now = queue.count_jobs(tenant).await?;
                *last = Some(Look {
                    at: Instant::now(),
                    jobs: now,
                });
                now
            }
        };
        if now + jobs > self.most {
            let most = self.most;
            return Err(Refusal::new(
                ErrorCode::QuotaExceeded,
                format!("{now} jobs of `{tenant}` are in the queue, and this key may have {most} there"),
            ));
        }
        if let Some(look) = &mut *last {
            look.jobs += jobs;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeQueue;

    #[tokio::test(start_paused = true)]
    async fn what_was_let_through_counts_at_once_and_the_queue_has_the_last_word() {
        let queue = FakeQueue::default();
        let quota = Quota::new(3);
        let tenant = Token::sanitized("acme");
        let reserve = async |jobs| quota.reserve(&queue, &tenant, jobs).await;
        assert!(reserve(2).await.is_ok());
        assert_eq!(reserve(2).await.unwrap_err().code, ErrorCode::QuotaExceeded);
        assert!(reserve(1).await.is_ok());
        assert_eq!(reserve(1).await.unwrap_err().code, ErrorCode::QuotaExceeded);
        // None of them is in the queue any more.
        tokio::time::sleep(STALE).await;
        assert!(reserve(3).await.is_ok());
    }
}
