//! Which jobs are running, learned from the workers' progress events.
//!
//! Events may be missed: then a job shows as `queued` until its result is there. Each event has all that was told before,
//! so that the last one is enough.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use precis_schemas::event::Progress;
use precis_schemas::{JobHandle, JobId, subject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::watch::signs::{Signs, Watcher};

/// Most jobs that are remembered; the oldest are forgotten first.
const MAX_JOBS: usize = 50_000;
/// How long a job counts as running when nothing more is heard of it.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Default)]
struct Heard {
    jobs: HashMap<JobId, (Instant, Progress)>,
    /// In the order of their arrival; may name jobs that are not in the map any more.
    order: VecDeque<(Instant, JobId)>,
}

/// Jobs that a worker has begun with. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    heard: Arc<Mutex<Heard>>,
    signs: Signs,
}

impl Running {
    /// The last event of a job that is not known to have ended. Of two jobs of the same id, the handle tells which one.
    pub(crate) fn get(&self, handle: &JobHandle) -> Option<Progress> {
        let heard = self.lock();
        let (at, progress) = heard.jobs.get(&handle.id)?;
        let other = |sequence| progress.job_sequence.is_some_and(|its| its != sequence);
        let is_it = at.elapsed() < MAX_AGE && !handle.sequence.is_some_and(other);
        is_it.then(|| progress.clone())
    }

    /// Takes a place among those who watch a job: every event from now on is noticed.
    pub(crate) fn watch(&self, id: &JobId) -> Watcher {
        self.signs.register(id)
    }

    /// Jobs that somebody watches.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        self.signs.count()
    }

    /// Whether a worker has begun with a job that is not known to have ended.
    pub(crate) fn has(&self, id: &JobId) -> bool {
        let heard = self.lock();
        heard.jobs.get(id).is_some_and(|(at, _)| at.elapsed() < MAX_AGE)
    }

    /// Remembers an event.
    pub(crate) fn note(&self, progress: Progress) {
        let now = Instant::now();
        let id = progress.id.clone();
        let mut heard = self.lock();
        heard.order.push_back((now, progress.id.clone()));
        heard.jobs.insert(progress.id.clone(), (now, progress));
        while let Some((at, id)) = heard.order.front()
            && (heard.order.len() > MAX_JOBS || at.elapsed() >= MAX_AGE)
        {
            let (at, id) = (*at, id.clone());
            heard.order.pop_front();
            // A later event of the same job stands further behind.
            if heard.jobs.get(&id).is_some_and(|(latest, _)| *latest == at) {
                heard.jobs.remove(&id);
            }
        }
        drop(heard);
        self.signs.give(&id);
    }

    /// Forgets a job that has ended.
    pub(crate) fn forget(&self, id: &JobId) {
        self.lock().jobs.remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        // A poisoned lock still holds a usable map: entries are inserted and removed whole.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to progress events until `stop`.
pub(crate) async fn listen(
    client: &Client,
    running: Running,
    stop: CancellationToken,
) -> Result<(), async_nats::SubscribeError> {
    let mut events = client.subscribe(subject::ALL_PROGRESS).await?;
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return,
                message = events.next() => message,
            };
            let Some(message) = message else { return };
            match serde_json::from_slice::<Progress>(&message.payload) {
                // The id in the body is what a worker says, the one in the subject is what it may publish.
                Ok(event) if subject::job_id_of(&message.subject).as_ref() == Some(&event.id) => {
                    running.note(event);
                }
                Ok(_) => tracing::debug!(subject = %message.subject, "a progress event of another job"),
                Err(error) => tracing::debug!(%error, "a progress event that can't be read"),
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, attempt: u64) -> Progress {
        Progress {
            id: id.parse().unwrap(),
            attempt,
            worker: precis_schemas::Token::new("a worker", "w1").unwrap(),
            started_at: precis_runtime::clock::now(),
            job_sequence: None,
            part: None,
            text: None,
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let running = Running::default();
        running.note(event("first", 1));
        for number in 0..MAX_JOBS {
            running.note(event(&format!("job-{number}"), 1));
        }
        assert_eq!(running.get(&"first".parse().unwrap()), None);
        assert!(running.get(&"job-1".parse().unwrap()).is_some());
        assert!(running.lock().jobs.len() <= MAX_JOBS);
    }

    #[test]
    fn the_latest_attempt_counts_until_the_job_has_ended() {
        let running = Running::default();
        let handle: JobHandle = "a".parse().unwrap();
        running.note(event("a", 1));
        running.note(event("a", 2));
        assert_eq!(running.get(&handle).unwrap().attempt, 2);
        running.forget(&handle.id);
        assert_eq!(running.get(&handle), None);
    }

    #[test]
    fn two_jobs_of_one_id_are_told_apart() {
        let running = Running::default();
        running.note(Progress {
            job_sequence: Some(9),
            ..event("a", 1)
        });
        let get = |handle: &str| running.get(&handle.parse().unwrap());
        assert!(get("a.9").is_some() && get("a").is_some());
        assert_eq!(get("a.5"), None);
    }
}
