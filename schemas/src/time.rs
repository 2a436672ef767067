//! Times on the wire: RFC 3339 in UTC with milliseconds, such as `2026-11-23T13:00:00.250Z`.

use jiff::{SignedDuration, Timestamp};

/// Returns the milliseconds from `earlier` to `later`, or 0 if clocks disagree and the difference is negative.
pub fn millis_between(earlier: Timestamp, later: Timestamp) -> f64 {
    let elapsed: SignedDuration = later.duration_since(earlier);
    (elapsed.as_secs_f64() * 1_000.0).max(0.0)
}

/// Cuts `time` to the millisecond, so that it survives the wire format unchanged.
pub fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
