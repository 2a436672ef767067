//! Arrival times for open workloads, in which requests arrive independently of earlier responses.

use std::time::Duration;

use precis_runtime::clock::Instant;

/// Returns `count` arrival times of a Poisson process, in seconds from the start.
pub(crate) fn poisson_arrivals(count: usize, per_second: f64, seed: u64) -> Vec<f64> {
    let mut state = seed | 1;
    let mut now = 0.0;
    let mut arrival = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        now -= uniform.ln() / per_second;
        now
    };
    (0..count).map(|_| arrival()).collect()
}

/// Blocks the thread until `seconds` after `start`.
#[allow(clippy::disallowed_methods)] // runs on a thread of its own, outside any executor
pub(crate) fn sleep_until(start: Instant, seconds: f64) {
    let at = start + Duration::from_secs_f64(seconds);
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}
