//! Learns which tenants have jobs: the server announces each job that it has stored, and a periodic count finds those
//! whose announcement was lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use precis_schemas::worker_consumers::{TenantLane, queued_of_model};
use precis_schemas::{Lane, Token};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::queue::JobQueue;

/// How often jobs are counted.
const COUNT_PERIOD: Duration = Duration::from_secs(3);
/// How often the connection is checked. Announcements are lost while it is down.
const CHECK_PERIOD: Duration = Duration::from_millis(250);

/// Jobs by lane and tenant.
pub(super) type JobCounts = HashMap<(Lane, Token), u64>;

#[derive(Default)]
struct Inbox {
    /// Announced jobs by subject.
    announced: HashMap<String, u64>,
    /// The latest count.
    counted: Option<JobCounts>,
}

impl Inbox {
    fn announce(&mut self, subject: &str) {
        match self.announced.get_mut(subject) {
            Some(jobs) => *jobs += 1,
            None => {
                self.announced.insert(subject.to_owned(), 1);
            }
        }
    }
}

/// What was learned about the queue and not yet read. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Announcements {
    inbox: Arc<Mutex<Inbox>>,
    changed: Arc<Notify>,
}

impl Announcements {
    /// Waits until there is something to read.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns the announced jobs since the last call, and the latest count if it is new.
    pub(super) fn read(&self) -> (Vec<(TenantLane, u64)>, Option<JobCounts>) {
        let Inbox { announced, counted } = std::mem::take(&mut *self.inbox.lock());
        let announced = announced
            .into_iter()
            .filter_map(|(subject, jobs)| Some((TenantLane::of_subject(&subject)?, jobs)))
            .collect();
        (announced, counted)
    }

    /// Receives announcements and counts jobs until `stop`.
    pub(super) async fn listen(self, queue: JobQueue, stop: CancellationToken) {
        let listen = async {
            tokio::join!(self.receive(&queue), self.count(&queue));
        };
        tokio::select! {
            () = listen => {}
            () = stop.cancelled() => {}
        }
    }

    async fn receive(&self, queue: &JobQueue) {
        let filter = queued_of_model(&queue.settings.model);
        // The client restores the subscription after a reconnect.
        let mut messages = match queue.settings.client.subscribe(filter).await {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(%error, "subscribing to queued jobs failed; jobs of new tenants may wait a few seconds");
                return;
            }
        };
        while let Some(message) = messages.next().await {
            self.inbox.lock().announce(&message.subject);
            self.changed.notify_one();
        }
    }

    async fn count(&self, queue: &JobQueue) {
        let statistics = queue.settings.client.statistics();
        loop {
            let connects = statistics.connects.load(Ordering::Relaxed);
            match queue.count_jobs().await {
                Ok(counts) => {
                    self.inbox.lock().counted = Some(counts);
                    self.changed.notify_one();
                }
                Err(error) => tracing::debug!(%error, "counting queued jobs failed"),
            }
            let mut waited = Duration::ZERO;
            while waited < COUNT_PERIOD && statistics.connects.load(Ordering::Relaxed) == connects {
                tokio::time::sleep(CHECK_PERIOD).await;
                waited += CHECK_PERIOD;
            }
        }
    }
}
