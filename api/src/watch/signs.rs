//! Signs that something has happened to a job: a place in a map for each job that somebody watches.
//!
//! However many watch, NATS has one subscription of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use precis_schemas::JobId;
use tokio::sync::watch;

type Map = HashMap<JobId, watch::Sender<u64>>;

/// Who watches which job. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signs(Arc<Mutex<Map>>);

/// A place among those who watch one job; given up when dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: JobId,
    signs: watch::Receiver<u64>,
    all: Signs,
}

impl Signs {
    /// Takes a place: every sign from now on is noticed.
    pub(crate) fn register(&self, id: &JobId) -> Watcher {
        let signs = self
            .lock()
            .entry(id.clone())
            .or_insert_with(|| watch::channel(0).0)
            .subscribe();
        Watcher {
            id: id.clone(),
            signs,
            all: self.clone(),
        }
    }

    /// Gives a sign to those who watch a job.
    pub(crate) fn give(&self, id: &JobId) {
        if let Some(sender) = self.lock().get(id) {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Jobs that somebody watches.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        // A poisoned lock still holds a usable map: entries are inserted and removed whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Waits for the next sign.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this place in the map does.
        let _always_there = self.signs.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut map = self.all.lock();
        // This receiver is still there, hence one and not zero. Receivers come and go only under the lock.
        if map
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            map.remove(&self.id);
        }
        // Dropped under the lock: two that leave at once would otherwise both count the other.
        let (_, gone) = watch::channel(0);
        drop(std::mem::replace(&mut self.signs, gone));
    }
}
