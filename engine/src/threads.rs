//! Compute threads: each batch in flight has a pool of its own.
//!
//! candle's matrix products run in the rayon pool that they are called from. One pool for all would let a thread that
//! waits for its part of a product pick up a whole other batch meanwhile; so a batch takes an idle pool, or starts one.

use std::sync::{Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{LoadError, Result};

/// Pools of `threads` threads each; as many as there were batches at the same time.
#[derive(Debug)]
pub(crate) struct ComputePools {
    threads: usize,
    idle: Mutex<Vec<ThreadPool>>,
}

impl ComputePools {
    /// Starts the first pool. `threads` 0 means one for each CPU that this process may use.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let first = start(threads).map_err(|error| LoadError::Threads {
            threads,
            reason: error.to_string(),
        })?;
        Ok(Self {
            threads,
            idle: Mutex::new(vec![first]),
        })
    }

    /// Threads of a pool.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` with a pool to itself.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let pool = match pool.map_or_else(|| start(self.threads), Ok) {
            Ok(pool) => pool,
            Err(error) => {
                tracing::warn!(%error, "no more compute threads: using the shared pool");
                return work();
            }
        };
        let result = pool.install(work);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pool);
        result
    }
}

fn start(threads: usize) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("engine-{index}"))
        .build()
}
