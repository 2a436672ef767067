//! Replaces the served model by a newer revision without stopping the worker.
//!
//! The new model is loaded and tried next to the old one, and then gets all new jobs. The old one is dropped when its
//! last job ends. If loading fails, the old one stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use precis_runtime::config::{ModelChoice, WorkerConfig};
use precis_schemas::Token;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ServedModel;
use crate::metrics;

/// Reloads the model on each trigger, until `stop`.
pub async fn reload_on_trigger(
    config: WorkerConfig,
    worker: Token,
    current: watch::Sender<Arc<ServedModel>>,
    mut triggers: ReloadTriggers,
    stop: CancellationToken,
) {
    let served_as = current.borrow().signature.model.served_as.clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = triggers.next() => {}
        }
        let (config, worker, served_as) = (config.clone(), worker.clone(), served_as.clone());
        let load = move || ServedModel::load(&config, &worker, &served_as, true);
        let loaded = tokio::select! {
            () = stop.cancelled() => return,
            loaded = tokio::task::spawn_blocking(load) => loaded,
        };
        match loaded {
            Ok(Ok(new)) => {
                let old = current.borrow().signature.model.clone();
                let new_model = &new.signature.model;
                if old == *new_model {
                    tracing::info!(revision = %old.revision, "model revision is unchanged");
                    continue;
                }
                tracing::info!(from = %old.revision, to = %new_model.revision, "model replaced for new jobs");
                metrics::model_replaced("replaced");
                current.send_replace(Arc::new(new));
            }
            Ok(Err(error)) => {
                metrics::model_replaced("failed");
                tracing::error!(%error, "reloading the model failed; serving the old one");
            }
            Err(panic) => {
                metrics::model_replaced("failed");
                tracing::error!(error = %panic, "reloading the model panicked; serving the old one");
            }
        }
    }
}

/// The events that reload the model: SIGHUP and, with `worker.watch_model_seconds`, changed files.
///
/// Created before the first model is loaded: without a handler, a SIGHUP during loading would end the process.
pub struct ReloadTriggers {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
    folder: Option<WatchedFolder>,
}

/// A model folder that is polled for changes.
struct WatchedFolder {
    path: PathBuf,
    period: Duration,
    /// The files as of the last trigger.
    loaded: Vec<FileStamp>,
    /// The files as of the last poll.
    polled: Vec<FileStamp>,
}

impl ReloadTriggers {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the signal handler can't be installed.
    pub fn listen(config: &WorkerConfig) -> std::io::Result<Self> {
        let folder = match (&config.model, config.watch_model_seconds) {
            (ModelChoice::Folder(path), seconds @ 1..) => {
                let files = file_stamps(path);
                Some(WatchedFolder {
                    path: path.clone(),
                    period: Duration::from_secs(seconds),
                    loaded: files.clone(),
                    polled: files,
                })
            }
            _ => None,
        };
        Ok(Self {
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
            folder,
        })
    }

    /// Waits for the next trigger.
    async fn next(&mut self) {
        let changed = async {
            match &mut self.folder {
                Some(folder) => folder.changed().await,
                None => std::future::pending().await,
            }
        };
        #[cfg(unix)]
        tokio::select! {
            _ = self.hangup.recv() => tracing::info!(signal = "SIGHUP", "reloading the model"),
            () = changed => {}
        }
        #[cfg(not(unix))]
        changed.await;
    }
}

impl WatchedFolder {
    /// Waits until the files differ from those that were loaded and two polls in a row see the same: then no copy is
    /// under way.
    async fn changed(&mut self) {
        loop {
            tokio::time::sleep(self.period).await;
            let path = self.path.clone();
            let files = tokio::task::spawn_blocking(move || file_stamps(&path)).await;
            let files = files.unwrap_or_default();
            let stable = files == self.polled;
            self.polled = files;
            if stable && self.polled != self.loaded {
                self.loaded.clone_from(&self.polled);
                tracing::info!(folder = %self.path.display(), "model files changed; reloading the model");
                return;
            }
        }
    }
}

/// Path, size in bytes and modification time of a file.
type FileStamp = (PathBuf, u64, Option<SystemTime>);

/// Returns the files of a model, with links followed: those of its folder, or the only one. An unreadable model has
/// none.
fn file_stamps(model: &Path) -> Vec<FileStamp> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(model).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).chain([model.to_owned()]) {
        if let Ok(metadata) = std::fs::metadata(&path)
            && metadata.is_file()
        {
            files.push((path, metadata.len(), metadata.modified().ok()));
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_stamps_differ_after_a_file_is_changed() {
        let folder = std::env::temp_dir().join(format!("precis-stamps-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let empty = file_stamps(&folder);
        std::fs::write(folder.join("config.json"), "{}").unwrap();
        let first = file_stamps(&folder);
        std::fs::write(folder.join("config.json"), "{ }").unwrap();
        let second = file_stamps(&folder);
        assert_eq!(file_stamps(&folder.join("config.json")), second);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(empty.is_empty() && file_stamps(&folder).is_empty());
        assert_ne!(first, second);
        assert_eq!(second.len(), 1);
    }
}
