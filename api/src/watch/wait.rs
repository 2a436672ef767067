//! Waiting for results: one subscription for the whole process, and a place in a map for each request.
//!
//! The server repeats every result that its stream has stored, so that what is heard is the job's one
//! result and need not be read again. Signs may be missed, as when the connection was lost: then there
//! is a look from time to time.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use precis_runtime::config::LimitsConfig;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{JobId, JobResult, subject};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::metrics;
use crate::queue::ReadConsistency;
use crate::state::AppState;
use crate::watch::progress::Running;

/// Pause between looks, at first; doubled for each further one. A sign may have been missed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the connection is looked at for a reconnect, during which signs may have been missed.
const RECONNECT_CHECK: Duration = Duration::from_millis(500);

/// A wait of this many seconds, if it is not longer than allowed.
///
/// # Errors
/// When it is.
pub(crate) fn bounded(seconds: u64, limits: &LimitsConfig) -> Result<Duration, Refusal> {
    let most = limits.max_wait_seconds;
    if seconds > most {
        return Err(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("wait must be at most {most} seconds, and is {seconds}"),
        ));
    }
    Ok(Duration::from_secs(seconds))
}

/// What is heard of a job.
#[derive(Debug, Clone, Default)]
enum Sign {
    /// Nothing yet.
    #[default]
    None,
    /// Something may have been missed.
    Look,
    /// The result, as the stream has stored it.
    Stored(Bytes),
}

type Map = HashMap<JobId, watch::Sender<Sign>>;

/// Requests that wait for a result. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiters(Arc<Mutex<Map>>);

/// A place among those who wait for one job; given up when dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    id: JobId,
    signs: watch::Receiver<Sign>,
    waiters: Waiters,
    /// The job's place in the queue, once it is known.
    sequence: Option<u64>,
    /// Who waits, if that is somebody who sees not everything.
    caller: Option<Caller>,
}

impl Waiters {
    /// Takes a place: every sign from now on is noticed. Take it before looking or publishing.
    pub(crate) fn register(&self, id: &JobId) -> Waiter {
        let signs = self
            .lock()
            .entry(id.clone())
            .or_insert_with(|| watch::channel(Sign::None).0)
            .subscribe();
        metrics::waiters(1.0);
        Waiter {
            id: id.clone(),
            signs,
            waiters: self.clone(),
            sequence: None,
            caller: None,
        }
    }

    /// Gives those who wait for a job its result, as the stream has stored it.
    pub(crate) fn stored(&self, id: &JobId, result: Bytes) {
        if let Some(sender) = self.lock().get(id) {
            sender.send_replace(Sign::Stored(result));
        }
    }

    /// Has everybody look who has heard nothing.
    fn look_all(&self) {
        for sender in self.lock().values() {
            sender.send_if_modified(|sign| {
                let nothing = !matches!(sign, Sign::Stored(_));
                if nothing {
                    *sign = Sign::Look;
                }
                nothing
            });
        }
    }

    /// Jobs that somebody waits for.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        // A poisoned lock still holds a usable map: entries are inserted and removed whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        metrics::waiters(-1.0);
        let mut map = self.waiters.lock();
        // This receiver is still there, hence one and not zero. Receivers come and go only under the lock.
        if map
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            map.remove(&self.id);
        }
        // Dropped under the lock: two that leave at once would otherwise both count the other.
        let (_, gone) = watch::channel(Sign::None);
        drop(std::mem::replace(&mut self.signs, gone));
    }
}

impl Waiter {
    /// The job stands at this place: what was the end of an earlier job of the same id doesn't count.
    pub(crate) fn stands_at(&mut self, sequence: Option<u64>) {
        self.sequence = sequence;
    }

    /// It is this caller who waits: what is not the caller's to see does not come.
    pub(crate) fn is_for(&mut self, caller: &Caller) {
        self.caller = (!caller.sees_all()).then(|| caller.clone());
    }

    fn is_about(&self, result: &JobResult) -> bool {
        let is_earlier = self
            .sequence
            .is_some_and(|sequence| result.gives_way_to(sequence));
        let is_seen = self
            .caller
            .as_ref()
            .is_none_or(|caller| caller.may_see(&result.tenant));
        is_seen && !is_earlier
    }

    /// Waits until there is a result; none when `until` has come or the process is to stop before.
    ///
    /// The job had none when this place was taken, or somebody has looked since then: what came later is heard, so that
    /// the first look is a while off. One that fails is no reason to give up: the queue may come back in time.
    pub(crate) async fn result(&mut self, state: &AppState, until: Instant) -> Option<JobResult> {
        let mut pause = FIRST_PAUSE;
        loop {
            if state.stop().is_cancelled() || Instant::now() >= until {
                return None;
            }
            let next = (Instant::now() + pause).min(until);
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = state.stop().cancelled() => {}
                // The sender lives as long as this place in the map does.
                _ = self.signs.changed() => {}
                () = sleep_until(next) => {}
            }
            let sign = self.signs.borrow_and_update().clone();
            if let Sign::Stored(body) = sign {
                match serde_json::from_slice(&body) {
                    Ok(result) if self.is_about(&result) => return Some(result),
                    Ok(_) => {}
                    Err(error) => tracing::error!(job = %self.id, %error, "a result can't be read"),
                }
            }
            let look = timeout_at(until, state.queue().result(&self.id, ReadConsistency::Any)).await;
            if let Ok(Ok(Some(result))) = look
                && self.is_about(&result)
            {
                return Some(result);
            }
        }
    }
}

/// Listens to results until `stop`, and wakes who waits for them.
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
        let mut check = tokio::time::interval(RECONNECT_CHECK);
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
                        waiters.look_all();
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
    use crate::testing::{FakeQueue, result, state_of};

    #[tokio::test(start_paused = true)]
    async fn a_thousand_waiters_are_woken_and_leave_nothing_behind() {
        let queue = Arc::new(FakeQueue::default());
        let state = state_of(queue.clone());
        let until = Instant::now() + Duration::from_secs(100);
        let waiting: Vec<_> = (0..1_000)
            .map(|number| {
                let state = state.clone();
                // Two for each job.
                let mut waiter = state
                    .waiters()
                    .register(&format!("job-{}", number / 2).parse().unwrap());
                tokio::spawn(async move { waiter.result(&state, until).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        for number in 0..500 {
            let result = result(&format!("job-{number}"), number + 1);
            let body = serde_json::to_vec(&result).unwrap();
            state.waiters().stored(&result.id, body.into());
        }
        let woken = Instant::now();
        for waiter in waiting {
            assert!(waiter.await.unwrap().is_some());
        }
        assert!(woken.elapsed() < Duration::from_millis(100));
        assert!(state.waiters().lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_sign_costs_a_second_and_a_stop_wakes_at_once() {
        let queue = Arc::new(FakeQueue::default());
        let state = state_of(queue.clone());
        let began = Instant::now();
        let mut waiter = state.waiters().register(&"a".parse().unwrap());
        queue
            .clone()
            .store_after(Duration::from_millis(200), result("a", 1));
        assert!(
            waiter
                .result(&state, began + Duration::from_secs(60))
                .await
                .is_some()
        );
        assert!(began.elapsed() < Duration::from_millis(1_100));

        let mut other = state.waiters().register(&"b".parse().unwrap());
        let stop = state.stop().clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            stop.cancel();
        });
        let began = Instant::now();
        assert_eq!(other.result(&state, began + Duration::from_secs(60)).await, None);
        assert!(began.elapsed() < Duration::from_millis(100));
    }
}
