//! How long the queue keeps results.

use std::fmt;
use std::time::Duration;

/// How long results are kept. Displays in the largest unit that fits without a remainder, such as `24 hours`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention(Duration);

impl Retention {
    /// Wraps a duration.
    pub(crate) fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// Returns the duration.
    pub(crate) fn duration(self) -> Duration {
        self.0
    }

    /// Returns the whole seconds.
    pub(crate) fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (count, unit) = match seconds {
            0 => (0, "second"),
            _ if seconds.is_multiple_of(3_600) => (seconds / 3_600, "hour"),
            _ if seconds.is_multiple_of(60) => (seconds / 60, "minute"),
            _ => (seconds, "second"),
        };
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} {unit}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_displays_without_rounding() {
        let text = |seconds| Retention::new(Duration::from_secs(seconds)).to_string();
        let seconds = [0, 1, 60, 90, 600, 3_600, 5_400, 86_400];
        let texts = [
            "0 seconds",
            "1 second",
            "1 minute",
            "90 seconds",
            "10 minutes",
            "1 hour",
            "90 minutes",
            "24 hours",
        ];
        assert_eq!(seconds.map(text), texts);
    }
}
