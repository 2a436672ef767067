//! A running engine query, and its cancellation when the client disconnects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::errors::{EngineError, code};

/// Interval between attempts to stop a query.
const KILL_INTERVAL: Duration = Duration::from_millis(200);
/// Time after which attempts to stop a query end.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the engine to stop the query with this tag.
pub(crate) type KillQuery = Arc<dyn Fn(&str) -> Result<(), EngineError> + Send + Sync>;

/// State that a task shares with its waiter.
#[derive(Debug)]
pub(crate) struct TaskState {
    /// Identifies the query in the engine.
    pub(crate) tag: String,
    cancelled: AtomicBool,
    finished: AtomicBool,
}

impl TaskState {
    /// Creates the state of a task.
    pub(crate) fn new(tag: String) -> Arc<Self> {
        Arc::new(Self {
            tag,
            cancelled: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        })
    }

    /// Fails if the task was cancelled.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(EngineError::new(
                code::QUERY_WAS_CANCELLED,
                "the client has disconnected",
            ));
        }
        Ok(())
    }
}

/// Marks the task as finished on drop, which includes a panic.
pub(crate) struct FinishedOnDrop(pub(crate) Arc<TaskState>);

impl Drop for FinishedOnDrop {
    fn drop(&mut self) {
        self.0.finished.store(true, Ordering::SeqCst);
    }
}

/// A running engine query.
pub(crate) struct EngineTask<T> {
    handle: JoinHandle<Result<T, EngineError>>,
    guard: CancelGuard,
}

impl<T> EngineTask<T> {
    /// Wraps the task behind `handle`, which shares `state`.
    pub(crate) fn new(
        kill: KillQuery,
        state: &Arc<TaskState>,
        handle: JoinHandle<Result<T, EngineError>>,
    ) -> Self {
        let guard = CancelGuard {
            kill,
            state: Arc::clone(state),
            armed: true,
        };
        Self { handle, guard }
    }

    /// Lets the query continue if the waiter is dropped.
    pub(crate) fn detached(mut self) -> Self {
        self.guard.disarm();
        self
    }

    /// Waits for the result. Dropping the future stops the query, unless it is detached.
    pub(crate) async fn finish(self) -> Result<T, EngineError> {
        let Self { handle, guard } = self;
        let outcome = handle.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a ClickHouse request panicked; its connection was closed");
            Err(EngineError::new(
                code::LOGICAL_ERROR,
                "internal error in the embedded engine's HTTP interface",
            ))
        });
        drop(guard);
        outcome
    }

    /// Returns the guard alone, for a task that reports its result through a channel.
    pub(crate) fn into_guard(self) -> CancelGuard {
        self.guard
    }
}

/// Stops the query if dropped before it has ended.
pub(crate) struct CancelGuard {
    kill: KillQuery,
    state: Arc<TaskState>,
    armed: bool,
}

impl CancelGuard {
    /// Keeps the drop from stopping the query.
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
        let (kill, state) = (Arc::clone(&self.kill), Arc::clone(&self.state));
        // Repeat, because the query may not have reached the engine yet.
        runtime.spawn(async move {
            let started = tokio::time::Instant::now();
            while started.elapsed() < KILL_TIMEOUT {
                // A streamed query usually ends by itself in this time, because sending its next chunk fails.
                tokio::time::sleep(KILL_INTERVAL / 10).await;
                if state.finished.load(Ordering::SeqCst) {
                    return;
                }
                let (kill, tag) = (Arc::clone(&kill), state.tag.clone());
                let killed = tokio::task::spawn_blocking(move || kill(&tag)).await;
                if let Ok(Err(error)) = killed {
                    tracing::debug!(%error, "stopping the query of a disconnected client failed");
                }
                tokio::time::sleep(KILL_INTERVAL).await;
            }
        });
    }
}
