//! Wall-clock and processor time of this process.

use std::time::Duration;

use precis_runtime::clock::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Time that a piece of work took, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elapsed {
    /// Wall-clock time.
    pub(crate) wall: f64,
    /// Processor time of all threads of the process.
    pub(crate) cpu: f64,
}

/// Runs `work` and measures it.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (T, Elapsed) {
    let (wall, cpu) = (Instant::now(), process_time());
    let result = work();
    let elapsed = Elapsed {
        wall: wall.elapsed().as_secs_f64(),
        cpu: (process_time() - cpu).as_secs_f64(),
    };
    (result, elapsed)
}

fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
