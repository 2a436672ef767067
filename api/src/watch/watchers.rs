//! Watch channels: one for each job that is being watched.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use precis_schemas::JobId;
use tokio::sync::watch;

/// The watch channels of all watched jobs. Cheap to clone.
#[derive(Debug)]
pub(super) struct Watchers<T>(Arc<Mutex<HashMap<JobId, Channel<T>>>>);

#[derive(Debug)]
struct Channel<T> {
    sender: watch::Sender<T>,
    /// Watchers of the job. The channel is removed with the last one.
    watchers: usize,
}

/// A receiver of what happens to one job. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Watcher<T> {
    id: JobId,
    receiver: watch::Receiver<T>,
    registry: Watchers<T>,
}

impl<T> Watchers<T> {
    /// Calls `update` with the channel of a job, if the job is watched.
    pub(super) fn update(&self, id: &JobId, update: impl FnOnce(&watch::Sender<T>)) {
        if let Some(channel) = self.0.lock().get(id) {
            update(&channel.sender);
        }
    }

    /// Calls `update` with every channel.
    pub(super) fn update_all(&self, update: impl Fn(&watch::Sender<T>)) {
        for channel in self.0.lock().values() {
            update(&channel.sender);
        }
    }

    /// Returns the number of watched jobs.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

impl<T: Default> Watchers<T> {
    /// Starts to watch a job. The watcher sees every later change.
    pub(super) fn register(&self, id: &JobId) -> Watcher<T> {
        let mut channels = self.0.lock();
        let channel = channels.entry(id.clone()).or_insert_with(|| Channel {
            sender: watch::Sender::new(T::default()),
            watchers: 0,
        });
        channel.watchers += 1;
        Watcher {
            id: id.clone(),
            receiver: channel.sender.subscribe(),
            registry: self.clone(),
        }
    }
}

impl<T> Watcher<T> {
    /// The watched job.
    pub(super) fn id(&self) -> &JobId {
        &self.id
    }

    /// Waits for the next change.
    pub(crate) async fn changed(&mut self) {
        // The channel outlives its watchers, so this never fails.
        let _open = self.receiver.changed().await;
    }

    /// Returns the latest value and marks it as seen.
    pub(super) fn latest(&mut self) -> T
    where
        T: Clone,
    {
        self.receiver.borrow_and_update().clone()
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        let mut channels = self.registry.0.lock();
        if let Some(channel) = channels.get_mut(&self.id) {
            channel.watchers -= 1;
            if channel.watchers == 0 {
                channels.remove(&self.id);
            }
        }
    }
}

impl<T> Clone for Watchers<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Watchers<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
