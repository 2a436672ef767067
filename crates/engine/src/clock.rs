//! The engine's clock, for durations only. It depends on no asynchronous runtime.

use std::time::Instant;

/// Returns the present moment.
#[allow(clippy::disallowed_methods, reason = "the engine's only reading of the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
