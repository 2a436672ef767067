//! Running jobs, learned from the workers' progress events.
//!
//! A missed event does no harm: each event repeats everything that the earlier ones said. A job whose events are all
//! missed shows as `queued` until it has a result.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use precis_runtime::expiring_map::ExpiringMap;
use precis_schemas::event::Progress;
use precis_schemas::{JobHandle, JobId, subject};
use tokio_util::sync::CancellationToken;

use crate::watch::watchers::{Watcher, Watchers};

/// Most jobs to remember. The one with the oldest event is forgotten first.
const MAX_JOBS: usize = 50_000;
/// A job without a new event for this long no longer counts as running.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// A watcher that is notified of a job's progress events.
pub(crate) type ProgressWatcher = Watcher<()>;

/// The jobs that workers have started and that have not ended yet. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// The latest event of each job.
    jobs: Arc<ExpiringMap<JobId, Progress>>,
    watchers: Watchers<()>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            jobs: Arc::new(ExpiringMap::new(MAX_AGE, MAX_JOBS)),
            watchers: Watchers::default(),
        }
    }
}

impl Running {
    /// Returns the latest event of a running job. The handle's sequence tells jobs with the same id apart.
    pub(crate) fn get(&self, handle: &JobHandle) -> Option<Progress> {
        let is_another =
            |sequence, progress: &Progress| progress.job_sequence.is_some_and(|running| running != sequence);
        self.jobs.read(&handle.id, |progress| match handle.sequence {
            Some(sequence) if is_another(sequence, progress) => None,
            _ => Some(progress.clone()),
        })?
    }

    /// Reports whether a job is running.
    pub(crate) fn has(&self, id: &JobId) -> bool {
        self.jobs.contains_key(id)
    }

    /// Starts to watch a job. The watcher is notified of every later event.
    pub(crate) fn watch(&self, id: &JobId) -> ProgressWatcher {
        self.watchers.register(id)
    }

    /// Returns the number of watched jobs.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        self.watchers.count()
    }

    /// Records an event and notifies the job's watchers.
    pub(crate) fn note(&self, progress: Progress) {
        let id = progress.id.clone();
        self.jobs.insert(id.clone(), progress);
        self.watchers.update(&id, |channel| {
            channel.send_replace(());
        });
    }

    /// Removes a job that has ended.
    pub(crate) fn forget(&self, id: &JobId) {
        self.jobs.remove(id);
    }
}

/// Records progress events until `stop`.
///
/// # Errors
/// If NATS refuses the subscription.
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
                // NATS permissions cover the subject only, so an event must not name another job in its body.
                Ok(event) if subject::job_id_of(&message.subject).as_ref() == Some(&event.id) => {
                    running.note(event);
                }
                Ok(_) => {
                    tracing::debug!(subject = %message.subject, "ignored a progress event for another job");
                }
                Err(error) => tracing::debug!(%error, "ignored an unreadable progress event"),
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
    fn a_full_map_forgets_the_oldest_job() {
        let running = Running::default();
        running.note(event("first", 1));
        for number in 0..MAX_JOBS {
            running.note(event(&format!("job-{number}"), 1));
        }
        assert_eq!(running.get(&"first".parse().unwrap()), None);
        assert!(running.get(&"job-0".parse().unwrap()).is_some());
        assert_eq!(running.jobs.len(), MAX_JOBS);
    }

    #[test]
    fn many_events_of_one_job_do_not_displace_another() {
        let running = Running::default();
        running.note(event("quiet", 1));
        for _ in 0..=MAX_JOBS {
            running.note(event("busy", 1));
        }
        assert!(running.get(&"quiet".parse().unwrap()).is_some());
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
    fn the_sequence_tells_jobs_with_the_same_id_apart() {
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
