//! Time, and what rounds of it come to.

use std::time::Duration;
use tokio::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Wall-clock and processor time of a piece of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// Seconds by the clock on the wall.
    pub(super) wall: f64,
    /// Seconds of all threads of this process.
    pub(super) cpu: f64,
}

/// Times `work`.
pub(super) fn time<T>(work: impl FnOnce() -> T) -> (T, Spent) {
    let (wall, cpu) = (Instant::now(), process_time());
    let result = work();
    let spent = Spent {
        wall: wall.elapsed().as_secs_f64(),
        cpu: (process_time() - cpu).as_secs_f64(),
    };
    (result, spent)
}

fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The middle one; the mean of the two in the middle where there are two.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// The value that this share of all is at or below, 0 to 1.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => values[((count - 1) as f64 * share).round() as usize],
    }
}

/// Megabytes that are resident, from `/proc/self/statm`; nothing on other systems.
pub(super) fn resident_megabytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&mut [5.0, 1.0, 3.0], 0.95), 5.0);
    }
}
