//! Waiting for results.
//!
//! NATS repeats every result that the stream `RESULTS` has stored, so a waiter gets its result without another read.
//! Messages may be lost, for example during a reconnect. A waiter therefore also reads the stream from time to time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use precis_runtime::backoff::Backoff;
use precis_schemas::{JobId, JobResult, Token, subject};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::queue::{QueueBackend, ReadConsistency};
use crate::watch::progress::Running;
use crate::watch::watchers::{Watcher, Watchers};

/// Delay before the first read of the stream. It doubles with every further read.
const MIN_READ_DELAY: Duration = Duration::from_secs(1);
/// Longest delay between two reads of the stream.
const MAX_READ_DELAY: Duration = Duration::from_secs(5);
/// How often to check whether the connection was lost and restored.
const RECONNECT_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The latest signal to a waiter.
#[derive(Debug, Clone, Default)]
enum Signal {
    /// None yet.
    #[default]
    None,
    /// A result may have been missed: read the stream.
    Read,
    /// The result, as the stream has stored it.
    Result(Bytes),
}

/// The requests that wait for results. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiters(Watchers<Signal>);

impl Waiters {
    /// Starts to wait for a job. Call it before publishing or looking up the job, so that no result is missed.
    pub(crate) fn register(&self, id: &JobId) -> Waiter {
        metrics::waiters(1.0);
        Waiter {
            watcher: self.0.register(id),
            sequence: None,
            tenant: None,
        }
    }

    /// Passes a stored result to the waiters of its job.
    pub(crate) fn stored(&self, id: &JobId, result: Bytes) {
        self.0.update(id, |channel| {
            channel.send_replace(Signal::Result(result));
        });
    }

    /// Makes every waiter without a result read the stream.
    fn read_all(&self) {
        self.0.update_all(|channel| {
            channel.send_if_modified(|signal| {
                let has_result = matches!(signal, Signal::Result(_));
                if !has_result {
                    *signal = Signal::Read;
                }
                !has_result
            });
        });
    }

    /// Returns the number of jobs that are waited for.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.count()
    }
}

/// A request that waits for the result of one job. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    watcher: Watcher<Signal>,
    sequence: Option<u64>,
    tenant: Option<Token>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        metrics::waiters(-1.0);
    }
}

impl Waiter {
    /// Sets the job's sequence. The waiter then ignores the result of an earlier job with the same id that was cancelled.
    pub(crate) fn set_sequence(&mut self, sequence: Option<u64>) {
        self.sequence = sequence;
    }

    /// Sets the tenant. The waiter then ignores results of other tenants.
    pub(crate) fn set_tenant(&mut self, tenant: Option<Token>) {
        self.tenant = tenant;
    }

    fn accepts(&self, result: &JobResult) -> bool {
        let is_earlier = self
            .sequence
            .is_some_and(|sequence| result.is_superseded_by(sequence));
        let is_visible = self.tenant.as_ref().is_none_or(|tenant| *tenant == result.tenant);
        is_visible && !is_earlier
    }

    /// Waits for the result, at most until `until`. Returns `None` if there is none by then or once `stop` is
    /// cancelled.
    ///
    /// Assumes that the caller has looked for a result after [`Waiters::register`], so the first read comes after a
    /// delay. A failed read is repeated later: the queue may recover in time.
    pub(crate) async fn result(
        &mut self,
        queue: &dyn QueueBackend,
        stop: &CancellationToken,
        until: Instant,
    ) -> Option<JobResult> {
        let mut attempt = 0;
        loop {
            if stop.is_cancelled() || Instant::now() >= until {
                return None;
            }
            attempt += 1;
            let delay = Backoff::nth(MIN_READ_DELAY, MAX_READ_DELAY, attempt);
            let next_read = (Instant::now() + delay).min(until);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.watcher.changed() => {}
                () = sleep_until(next_read) => {}
            }
            if let Signal::Result(body) = self.watcher.latest() {
                match serde_json::from_slice(&body) {
                    Ok(result) if self.accepts(&result) => return Some(result),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(job = %self.watcher.id(), %error, "stored result is unreadable");
                    }
                }
            }
            let read = queue.result(self.watcher.id(), ReadConsistency::Any);
            if let Ok(Ok(Some(result))) = timeout_at(until, read).await
                && self.accepts(&result)
            {
                return Some(result);
            }
        }
    }
}

/// Passes results to their waiters until `stop`, and removes the jobs that ended from `running`.
///
/// # Errors
/// If NATS refuses the subscription.
pub(crate) async fn listen(
    client: &Client,
    waiters: Waiters,
    running: Running,
    stop: CancellationToken,
) -> Result<(), async_nats::SubscribeError> {
    let mut results = client.subscribe(subject::ALL_DONE).await?;
    let statistics = client.statistics();
    tokio::spawn(async move {
        let mut connects = statistics.connects.load(Ordering::Relaxed);
        let mut check = tokio::time::interval(RECONNECT_CHECK_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                message = results.next() => {
                    let Some(message) = message else { return };
                    if let Some(id) = subject::job_id_of(&message.subject) {
                        running.forget(&id);
                        waiters.stored(&id, message.payload);
                    }
                }
                _ = check.tick() => {
                    let now = statistics.connects.load(Ordering::Relaxed);
                    if now != connects {
                        connects = now;
                        waiters.read_all();
                    }
                }
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{FakeQueue, result};

    #[tokio::test(start_paused = true)]
    async fn a_thousand_waiters_wake_at_once_and_leave_no_channel_behind() {
        let queue = Arc::new(FakeQueue::default());
        let (waiters, stop) = (Waiters::default(), CancellationToken::new());
        let until = Instant::now() + Duration::from_secs(100);
        let waiting: Vec<_> = (0..1_000)
            .map(|number| {
                let (queue, stop) = (queue.clone(), stop.clone());
                // Two waiters for each job.
                let mut waiter = waiters.register(&format!("job-{}", number / 2).parse().unwrap());
                tokio::spawn(async move { waiter.result(&*queue, &stop, until).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        for number in 0..500 {
            let result = result(&format!("job-{number}"), number + 1);
            let body = serde_json::to_vec(&result).unwrap();
            waiters.stored(&result.id, body.into());
        }
        let stored_at = Instant::now();
        for waiter in waiting {
            assert!(waiter.await.unwrap().is_some());
        }
        assert!(stored_at.elapsed() < Duration::from_millis(100));
        assert_eq!(waiters.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_result_is_read_within_a_second() {
        let queue = Arc::new(FakeQueue::default());
        let began = Instant::now();
        let mut waiter = Waiters::default().register(&"a".parse().unwrap());
        queue
            .clone()
            .store_after(Duration::from_millis(200), result("a", 1));
        let until = began + Duration::from_secs(60);
        assert!(
            waiter
                .result(&*queue, &CancellationToken::new(), until)
                .await
                .is_some()
        );
        assert!(began.elapsed() < Duration::from_millis(1_100));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_wakes_waiters_at_once() {
        let stop = CancellationToken::new();
        let mut waiter = Waiters::default().register(&"b".parse().unwrap());
        tokio::spawn({
            let stop = stop.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                stop.cancel();
            }
        });
        let began = Instant::now();
        let until = began + Duration::from_secs(60);
        assert_eq!(waiter.result(&FakeQueue::default(), &stop, until).await, None);
        assert!(began.elapsed() < Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn results_of_other_tenants_are_ignored() {
        let waiters = Waiters::default();
        let mut waiter = waiters.register(&"a".parse().unwrap());
        waiter.set_tenant(Some(Token::sanitized("another")));
        let stored = result("a", 1);
        waiters.stored(&stored.id, serde_json::to_vec(&stored).unwrap().into());
        let until = Instant::now() + Duration::from_secs(10);
        assert_eq!(
            waiter
                .result(&FakeQueue::default(), &CancellationToken::new(), until)
                .await,
            None
        );
    }
}
