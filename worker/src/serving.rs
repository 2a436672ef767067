//! The model that a worker serves, and its replacement by a newer revision while jobs go on.
//!
//! Every job keeps the model that it began with, to the result that names its revision. A new model is loaded and tried
//! beside the old one; from then on it gets the jobs that come, and the old one is gone when its last job has ended. If the
//! new one can't be loaded the old one stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use precis_engine::{Engine, GenerateRequest, GenerationParams as EngineParams};
use precis_runtime::config::{ModelChoice, WorkerConfig};
use precis_schemas::Token;
use precis_schemas::result::{ModelRef, WorkerRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::model::{self, ModelError};
use crate::stages::batch::Requests;
use crate::stages::detokenize::{Signature, first_sentence_rule};

/// A loaded model with what goes with it.
pub struct Serving {
    /// The model.
    pub engine: Arc<Engine>,
    /// Makes requests of jobs, by the model's own defaults.
    pub requests: Requests,
    /// How results are signed.
    pub signature: Arc<Signature>,
    /// From the beginning of the load to the first token.
    pub first_token: Duration,
}

/// The model that new jobs go to.
pub type Current = watch::Receiver<Arc<Serving>>;

impl Serving {
    /// Loads the configured model and has it write a token. Blocks. `newest` asks the hub for the newest commit of a branch.
    ///
    /// # Errors
    /// When there is no such model or device, it doesn't fit, or it writes nothing that makes sense.
    pub fn load(
        settings: &WorkerConfig,
        worker: &Token,
        served_as: &Token,
        newest: bool,
    ) -> Result<Self, ModelError> {
        let begun = tokio::time::Instant::now();
        let engine = model::load(settings, newest)?;
        let tried = try_out(&engine).map_err(|error| ModelError::Unusable {
            model: settings.model.clone().into(),
            reason: error.to_string(),
        });
        tried?;
        let first_token = begun.elapsed();
        let info = engine.info();
        metrics::model_loaded(info.load_time, first_token);
        tracing::info!(
            model = %info.name,
            revision = %info.revision,
            first_token_ms = first_token.as_secs_f64() * 1e3,
            "the model has written its first token"
        );
        let signature = Arc::new(Signature {
            model: ModelRef {
                served_as: served_as.clone(),
                name: info.name.clone(),
                revision: info.revision.clone(),
            },
            worker: WorkerRef {
                id: worker.clone(),
                device: info.device.to_owned(),
            },
        });
        let requests = Requests {
            defaults: settings.params.clone(),
            model: engine.default_params().clone(),
            first_sentence: first_sentence_rule(),
        };
        Ok(Self {
            engine,
            requests,
            signature,
            first_token,
        })
    }
}

/// One token: what a damaged model can't write is known before the first job.
fn try_out(engine: &Engine) -> Result<(), precis_engine::RowError> {
    let params = EngineParams {
        num_beams: 1,
        do_sample: false,
        min_new_tokens: 0,
        max_new_tokens: 1,
        ..EngineParams::default()
    };
    let request = GenerateRequest::new(engine.tokenize("The rain stopped.")?, params);
    engine.submit(&request)?.wait().map(drop)
}

/// Replaces the model when the process gets SIGHUP or, with `worker.watch_model_seconds`, when the files of its folder have
/// changed and are left alone since. Until `stop`.
pub async fn replace(
    settings: WorkerConfig,
    worker: Token,
    current: watch::Sender<Arc<Serving>>,
    mut asked: Asked,
    stop: CancellationToken,
) {
    let served_as = current.borrow().signature.model.served_as.clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = asked.next() => {}
        }
        let (settings, worker, served_as) = (settings.clone(), worker.clone(), served_as.clone());
        let load = move || Serving::load(&settings, &worker, &served_as, true);
        let loaded = tokio::select! {
            () = stop.cancelled() => return,
            loaded = tokio::task::spawn_blocking(load) => loaded,
        };
        match loaded {
            Ok(Ok(new)) => {
                let old = current.borrow().signature.model.clone();
                let new_model = &new.signature.model;
                if old == *new_model {
                    tracing::info!(revision = %old.revision, "the model is still the same");
                    continue;
                }
                tracing::info!(from = %old.revision, to = %new_model.revision, "new jobs go to the new model");
                metrics::model_replaced("replaced");
                current.send_replace(Arc::new(new));
            }
            Ok(Err(error)) => {
                metrics::model_replaced("failed");
                tracing::error!(%error, "the new model can't be loaded; the old one goes on");
            }
            Err(panic) => {
                metrics::model_replaced("failed");
                tracing::error!(error = %panic, "loading the new model panicked; the old one goes on");
            }
        }
    }
}

/// What asks for another model: made before the first one is loaded, so that a SIGHUP that comes in between does not end
/// the process but is heeded once there is a model to replace.
pub struct Asked {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
    watched: Option<Watched>,
}

/// A folder that is looked at now and then.
struct Watched {
    folder: PathBuf,
    every: Duration,
    /// What was loaded last.
    loaded: Vec<Stamp>,
    /// What was seen last.
    seen: Vec<Stamp>,
}

impl Asked {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the process can't have a handler for the signal.
    pub fn listen(settings: &WorkerConfig) -> std::io::Result<Self> {
        let watched = match (&settings.model, settings.watch_model_seconds) {
            (ModelChoice::Folder(folder), seconds @ 1..) => {
                let seen = stamps(folder);
                Some(Watched {
                    folder: folder.clone(),
                    every: Duration::from_secs(seconds),
                    loaded: seen.clone(),
                    seen,
                })
            }
            _ => None,
        };
        Ok(Self {
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
            watched,
        })
    }

    /// Comes back when a model is to be loaded.
    async fn next(&mut self) {
        let changed = async {
            match &mut self.watched {
                Some(watched) => watched.changed().await,
                None => std::future::pending().await,
            }
        };
        #[cfg(unix)]
        tokio::select! {
            _ = self.hangup.recv() => tracing::info!(signal = "SIGHUP", "loading the model anew"),
            () = changed => {}
        }
        #[cfg(not(unix))]
        changed.await;
    }
}

impl Watched {
    /// Comes back when the files are others than those that were loaded, and have not changed between two looks: whoever
    /// copies them is done.
    async fn changed(&mut self) {
        loop {
            tokio::time::sleep(self.every).await;
            let folder = self.folder.clone();
            let now = tokio::task::spawn_blocking(move || stamps(&folder)).await;
            let now = now.unwrap_or_default();
            let settled = now == self.seen;
            self.seen = now;
            if settled && self.seen != self.loaded {
                self.loaded.clone_from(&self.seen);
                tracing::info!(folder = %self.folder.display(), "the files of the model have changed");
                return;
            }
        }
    }
}

/// A file's name, length and time of change.
type Stamp = (PathBuf, u64, Option<SystemTime>);

/// The files of a folder, links followed.
fn stamps(folder: &Path) -> Vec<Stamp> {
    let mut found = Vec::new();
    // A folder that can't be read has no files: nothing is loaded until they are back.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Ok(facts) = std::fs::metadata(entry.path())
            && facts.is_file()
        {
            found.push((entry.path(), facts.len(), facts.modified().ok()));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_tell_files_that_were_changed_or_replaced() {
        let folder = std::env::temp_dir().join(format!("precis-stamps-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let before = stamps(&folder);
        std::fs::write(folder.join("config.json"), "{}").unwrap();
        let one = stamps(&folder);
        std::fs::write(folder.join("config.json"), "{ }").unwrap();
        let other = stamps(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(before.is_empty() && stamps(&folder).is_empty());
        assert_ne!(one, other);
        assert_eq!(other.len(), 1);
    }
}
