//! A number of jobs that the queue counts, plus those that this gateway has admitted since.
//!
//! The count includes other gateways and direct publishers. Between two counts a gateway adds the jobs that it admits
//! itself, and learns of others at the next count.

use std::time::Duration;

use parking_lot::Mutex;
use precis_schemas::error_code::Refusal;
use tokio::time::Instant;

/// How long a count stays valid.
const MAX_AGE: Duration = Duration::from_millis(500);
/// How long a rough count stays valid that leaves more than half of the room.
const MAX_ROUGH_AGE: Duration = Duration::from_secs(5);
/// Age from which a count is repeated before a request is refused because of it.
const MIN_RECOUNT_AGE: Duration = Duration::from_millis(50);

/// How a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// The jobs fit.
    Admitted,
    /// They do not fit beside this number of jobs.
    NoRoom(u64),
}

#[derive(Debug)]
struct Count {
    /// The number of jobs, or why the queue could not be asked.
    jobs: Result<u64, Refusal>,
    taken_at: Instant,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Count>,
    /// Jobs that this gateway has admitted since the last count began. Some of them are part of it.
    admitted: u64,
    /// Jobs that this gateway has admitted since the count in progress began.
    admitted_meanwhile: u64,
}

/// A number of jobs. It is counted at most twice a second while it leaves room, and less than 20 times a second
/// otherwise.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Whether a count that leaves much room may be older.
    is_rough: bool,
    state: Mutex<State>,
    /// Held by the request that counts. Requests that need the same count wait for it and share its outcome. Those for
    /// which the last count is good enough don't.
    counting: tokio::sync::Mutex<()>,
}

impl Counted {
    /// Creates a number of jobs that is counted less often while more than half of the room is left.
    pub(crate) fn rough() -> Self {
        Self {
            is_rough: true,
            ..Self::default()
        }
    }

    /// Admits `jobs` if there are at most `max` with them.
    ///
    /// # Errors
    /// If `count` fails.
    pub(crate) async fn reserve<Counting>(
        &self,
        jobs: u64,
        max: u64,
        count: impl FnOnce() -> Counting,
    ) -> Result<Reservation, Refusal>
    where
        Counting: Future<Output = Result<u64, Refusal>>,
    {
        let arrived_at = Instant::now();
        if let Some(outcome) = self.reserve_by(jobs, max, |taken_at, fitting| {
            let max_age = match fitting {
                Some(present) if self.is_rough && present < max / 2 => MAX_ROUGH_AGE,
                Some(_) => MAX_AGE,
                None => MIN_RECOUNT_AGE,
            };
            taken_at.elapsed() < max_age
        }) {
            return outcome;
        }
        let _counting = self.counting.lock().await;
        // Another request may have counted since this one arrived.
        if let Some(outcome) = self.reserve_by(jobs, max, |taken_at, _| taken_at >= arrived_at) {
            return outcome;
        }
        self.state.lock().admitted_meanwhile = 0;
        let counted = count().await;
        let mut state = self.state.lock();
        state.last = Some(Count {
            jobs: counted,
            taken_at: Instant::now(),
        });
        state.admitted = state.admitted_meanwhile;
        drop(state);
        // The count has just been stored, so it is used.
        let outcome = self.reserve_by(jobs, max, |_, _| true);
        outcome.unwrap_or(Ok(Reservation::Admitted))
    }

    /// Decides by the last count if `is_usable`, which gets its time, and the number of jobs if it leaves room for more.
    fn reserve_by(
        &self,
        jobs: u64,
        max: u64,
        is_usable: impl Fn(Instant, Option<u64>) -> bool,
    ) -> Option<Result<Reservation, Refusal>> {
        let mut state = self.state.lock();
        let count = state.last.as_ref()?;
        let present = count.jobs.as_ref().map(|counted| counted + state.admitted);
        let fitting = present
            .as_ref()
            .ok()
            .copied()
            .filter(|present| present + jobs <= max);
        if !is_usable(count.taken_at, fitting) {
            return None;
        }
        match present {
            Err(refusal) => Some(Err(refusal.clone())),
            Ok(present) if fitting.is_none() => Some(Ok(Reservation::NoRoom(present))),
            Ok(_) => {
                state.admitted += jobs;
                state.admitted_meanwhile += jobs;
                Some(Ok(Reservation::Admitted))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use precis_schemas::ErrorCode;

    use super::*;

    const MAX: u64 = 3;

    /// A queue that takes `delay` to count its jobs.
    #[derive(Default)]
    struct SlowQueue {
        jobs: AtomicU64,
        counts: AtomicU64,
        delay: Duration,
        fails: bool,
    }

    impl SlowQueue {
        async fn count(&self) -> Result<u64, Refusal> {
            self.counts.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.delay).await;
            match self.fails {
                true => Err(Refusal::new(ErrorCode::QueueUnavailable, "no answer")),
                false => Ok(self.jobs.load(Ordering::Relaxed)),
            }
        }
    }

    async fn reserve(counted: &Counted, queue: &SlowQueue, jobs: u64) -> Result<bool, Refusal> {
        let outcome = counted.reserve(jobs, MAX, || queue.count()).await?;
        Ok(outcome == Reservation::Admitted)
    }

    #[tokio::test(start_paused = true)]
    async fn admitted_jobs_count_until_the_queue_is_counted_again() {
        let (counted, queue) = (Counted::default(), SlowQueue::default());
        let reserve = async |jobs| reserve(&counted, &queue, jobs).await.unwrap();
        assert!(reserve(2).await);
        assert!(!reserve(2).await);
        assert!(reserve(1).await);
        assert!(!reserve(1).await);
        // The queue is empty by now.
        tokio::time::sleep(MIN_RECOUNT_AGE).await;
        assert!(reserve(3).await);
        assert_eq!(queue.counts.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rough_count_is_repeated_rarely_while_it_leaves_much_room() {
        let (counted, queue) = (Counted::rough(), SlowQueue::default());
        let reserve = async |max| counted.reserve(1, max, || queue.count()).await.unwrap();
        for (max, counts) in [(100, 1), (100, 1), (4, 2)] {
            assert_eq!(reserve(max).await, Reservation::Admitted);
            assert_eq!(queue.counts.load(Ordering::Relaxed), counts, "{max}");
            tokio::time::sleep(MAX_AGE).await;
        }
        tokio::time::sleep(MAX_ROUGH_AGE).await;
        reserve(100).await;
        assert_eq!(queue.counts.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_share_one_slow_count_and_its_error() {
        for fails in [false, true] {
            let counted = Arc::new(Counted::default());
            let queue = Arc::new(SlowQueue {
                delay: Duration::from_secs(5),
                fails,
                ..SlowQueue::default()
            });
            let began = Instant::now();
            let requests: Vec<_> = (0..100)
                .map(|_| {
                    let (counted, queue) = (counted.clone(), queue.clone());
                    tokio::spawn(async move { reserve(&counted, &queue, 1).await })
                })
                .collect();
            let mut admitted = 0;
            for request in requests {
                match request.await.unwrap() {
                    Ok(is_admitted) => admitted += u64::from(is_admitted),
                    Err(_) => assert!(fails),
                }
            }
            assert_eq!(admitted, if fails { 0 } else { MAX });
            assert_eq!(queue.counts.load(Ordering::Relaxed), 1);
            assert_eq!(began.elapsed(), Duration::from_secs(5));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_fits_does_not_wait_for_another_ones_recount() {
        let counted = Arc::new(Counted::default());
        let queue = Arc::new(SlowQueue {
            delay: Duration::from_secs(5),
            ..SlowQueue::default()
        });
        assert!(reserve(&counted, &queue, 1).await.unwrap());
        assert!(reserve(&counted, &queue, 1).await.unwrap());
        tokio::time::sleep(MIN_RECOUNT_AGE).await;
        let large = {
            let (counted, queue) = (counted.clone(), queue.clone());
            tokio::spawn(async move { reserve(&counted, &queue, 3).await })
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        assert!(reserve(&counted, &queue, 1).await.unwrap());
        assert_eq!(began.elapsed(), Duration::ZERO);
        // The job that was admitted during the recount still counts after it.
        assert_eq!(large.await.unwrap(), Ok(false));
    }
}
