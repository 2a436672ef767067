//! Work on the engine that somebody waits for, and what happens when nobody does any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::errors::{EngineError, code};

/// How often a query whose client has left is told to stop.
const KILL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a query may take to notice that it was told to stop.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// What a job and those who wait for it share.
#[derive(Debug)]
pub(crate) struct JobState {
    /// By which the engine knows the query.
    pub(crate) tag: String,
    cancelled: AtomicBool,
    finished: AtomicBool,
}

impl JobState {
    /// The state of a job that is about to start.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tag: format!("precis-{}", uuid::Uuid::now_v7()),
            cancelled: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        })
    }

    /// Fails if nobody waits for the job any more.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(EngineError::new(code::QUERY_WAS_CANCELLED, "the client has left"));
        }
        Ok(())
    }
}

/// Marks the end of a job, a panic included.
pub(crate) struct FinishedOnDrop(pub(crate) Arc<JobState>);

impl Drop for FinishedOnDrop {
    fn drop(&mut self) {
        self.0.finished.store(true, Ordering::SeqCst);
    }
}

/// Work on the engine in progress.
pub(crate) struct Job<T> {
    handle: JoinHandle<Result<T, EngineError>>,
    guard: CancelGuard,
}

impl<T> Job<T> {
    /// A job that `handle` runs; `state` is shared with it.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        state: &Arc<JobState>,
        handle: JoinHandle<Result<T, EngineError>>,
    ) -> Self {
        let guard = CancelGuard {
            engine: Arc::clone(engine),
            state: Arc::clone(state),
            armed: true,
        };
        Self { handle, guard }
    }

    /// Lets the work go on when nobody waits for it any more.
    pub(crate) fn detached(mut self) -> Self {
        self.guard.disarm();
        self
    }

    /// Waits for the end. Dropped before it, the query is stopped (unless it is detached).
    pub(crate) async fn finish(self) -> Result<T, EngineError> {
        let Self { handle, guard } = self;
        let outcome = handle.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a ClickHouse request panicked; its connection is closed");
            Err(EngineError::new(
                code::LOGICAL_ERROR,
                "the request failed inside the HTTP front",
            ))
        });
        drop(guard);
        outcome
    }

    /// The guard alone, for work whose outcome comes another way.
    pub(crate) fn into_guard(self) -> CancelGuard {
        self.guard
    }
}

/// Stops the query when it is dropped before the query has ended.
pub(crate) struct CancelGuard {
    engine: Arc<Engine>,
    state: Arc<JobState>,
    armed: bool,
}

impl CancelGuard {
    /// The query has ended: there is nothing to stop any more.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if !self.armed || self.state.finished.load(Ordering::SeqCst) {
            return;
        }
        self.state.cancelled.store(true, Ordering::SeqCst);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (engine, state) = (Arc::clone(&self.engine), Arc::clone(&self.state));
        // Repeated, because the query may not have reached the engine yet.
        runtime.spawn(async move {
            let started = tokio::time::Instant::now();
            while started.elapsed() < KILL_PATIENCE {
                // A streamed query usually ends by itself here: its next chunk finds no reader.
                tokio::time::sleep(KILL_INTERVAL / 10).await;
                if state.finished.load(Ordering::SeqCst) {
                    return;
                }
                let (engine, tag) = (Arc::clone(&engine), state.tag.clone());
                let killed = tokio::task::spawn_blocking(move || engine.kill(Some(&tag))).await;
                if let Ok(Err(error)) = killed {
                    tracing::debug!(%error, "a query whose client has left could not be stopped");
                }
                tokio::time::sleep(KILL_INTERVAL).await;
            }
        });
    }
}
