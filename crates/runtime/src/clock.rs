//! The clock: the only place that reads the time of day.
//!
//! Use [`now`] for timestamps that leave the process, and [`Instant`] for durations, deadlines and times to live.
//! `clippy.toml` bans every other source.
//!
//! Both follow tokio's clock. In a test with paused time (`#[tokio::test(start_paused = true)]`) the time of day stands
//! still too, and `tokio::time::advance` moves it.

use jiff::{SignedDuration, Timestamp};
use precis_schemas::time;
pub use tokio::time::Instant;

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
    let wall = Timestamp::now();
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
}
