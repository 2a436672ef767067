//! The clock: the only place that reads the time of day.
//!
//! Use [`now`] for timestamps that leave the process, and [`Instant`] for durations, deadlines and times to live.
//! `clippy.toml` bans every other source.
//!
//! Both follow tokio's clock. In a test with paused time (`#[tokio::test(start_paused = true)]`) the time of day stands
//! still too, and `tokio::time::advance` moves it. A test of running processes makes the time of day jump with
//! [`follow`], as a machine's does when it is set. Durations never jump.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use precis_schemas::time;
pub use tokio::time::Instant;

/// Environment variable with the file for [`follow`]. Only for tests.
pub const JUMPS_ENV: &str = "PRECIS_TEST_CLOCK";
/// How often the file is read.
const JUMP_INTERVAL: Duration = Duration::from_millis(50);

/// How far the time of day is ahead of the system's, in milliseconds.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// Moves the time of day by the milliseconds in `file`, whenever they change. Returns only if the future is dropped.
///
/// A missing or unreadable file leaves the time of day as it is.
pub async fn follow(file: PathBuf) {
    tracing::warn!(file = %file.display(), "reading the time of day from a file (for tests only)");
    loop {
        if let Some(ahead) = read_jump(&file) {
            AHEAD_MS.store(ahead, Ordering::Relaxed);
        }
        tokio::time::sleep(JUMP_INTERVAL).await;
    }
}

fn read_jump(file: &Path) -> Option<i64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Returns the time of day, cut to the millisecond as it is on the wire.
pub fn now() -> Timestamp {
    time::to_millis(now_precise())
}

/// Returns the time of day in full precision.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the system's clocks"
)]
pub fn now_precise() -> Timestamp {
    // Tokio's clock differs from the system's only while a test has paused or advanced it.
    let tokio = Instant::now().into_std();
    let system = std::time::Instant::now();
    let ahead = SignedDuration::from_millis(AHEAD_MS.load(Ordering::Relaxed));
    let wall = Timestamp::now()
        .checked_add(ahead)
        .unwrap_or_else(|_| Timestamp::now());
    let shift = match tokio.checked_duration_since(system) {
        Some(ahead) => SignedDuration::try_from(ahead),
        None => SignedDuration::try_from(system.duration_since(tokio)).map(|behind| -behind),
    };
    shift
        .ok()
        .and_then(|shift| wall.checked_add(shift).ok())
        .unwrap_or(wall)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "compares this clock with the system's")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_of_day_is_the_systems() {
        let before = Timestamp::now();
        let read = now_precise();
        let after = Timestamp::now();
        assert!(
            before <= read + Duration::from_millis(1) && read <= after,
            "{before} {read} {after}"
        );
        assert_eq!(now().subsec_nanosecond() % 1_000_000, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_day_stands_still_while_time_is_paused() {
        let start = now();
        // Real time passes meanwhile.
        tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_millis(30)))
            .await
            .unwrap();
        assert!(now().duration_since(start).abs() <= SignedDuration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn advancing_time_in_a_test_moves_the_time_of_day() {
        let (start, instant) = (now(), Instant::now());
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let moved = now().duration_since(start);
        assert!((moved - SignedDuration::from_hours(1)).abs() <= SignedDuration::from_millis(10));
        assert!(instant.elapsed() >= Duration::from_secs(3_600));
    }
    #[test]
    fn a_jump_is_a_number_of_milliseconds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        assert_eq!(read_jump(&file), None);
        for (text, jump) in [("-1500\n", Some(-1_500)), ("60000", Some(60_000)), ("soon", None)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read_jump(&file), jump);
        }
    }
}
