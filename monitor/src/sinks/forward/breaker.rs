//! A circuit breaker: when a receiver fails again and again it is left alone for a while, and then asked with a single
//! record before everything else is sent.

use std::time::Duration;

use crate::backoff::Backoff;

/// Failures in a row after which the circuit opens.
const FAILURES: u32 = 5;

/// The state of the circuit to one receiver.
#[derive(Debug)]
pub(crate) struct Breaker {
    backoff: Backoff,
    failures: u32,
    /// How long an open circuit stays open.
    rest: Duration,
}

impl Breaker {
    /// A closed circuit that will open for `rest`.
    pub(crate) fn new(rest: Duration) -> Self {
        Self {
            backoff: Backoff::default(),
            failures: 0,
            rest,
        }
    }

    /// Whether the receiver has failed so often that only one record is tried.
    pub(crate) fn is_open(&self) -> bool {
        self.failures >= FAILURES
    }

    /// Whether the last try failed: then one record is enough to find out whether it is over.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.failures > 0
    }

    /// The receiver took something.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    /// The receiver failed; how long to leave it alone: what it asks for or more, with chance in it, so that several
    /// monitors don't come back at once.
    pub(crate) fn failed(&mut self, retry_after: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let mut pause = self.backoff.pause();
        if self.is_open() {
            pause = self.rest.mul_f64(0.75 + rand::random::<f64>() / 2.0);
        }
        match retry_after {
            Some(asked) => asked.mul_f64(1.0 + rand::random::<f64>() / 10.0).max(pause),
            None => pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_the_circuit_and_one_success_closes_it() {
        let rest = Duration::from_secs(40);
        let mut breaker = Breaker::new(rest);
        for _ in 0..FAILURES - 1 {
            assert!(breaker.failed(None) <= Duration::from_secs(10));
            assert!(!breaker.is_open() && breaker.is_in_doubt());
        }
        let pause = breaker.failed(None);
        assert!(breaker.is_open());
        assert!(
            pause >= rest.mul_f64(0.75) && pause <= rest.mul_f64(1.25),
            "{pause:?}"
        );
        breaker.succeeded();
        assert!(!breaker.is_open() && !breaker.is_in_doubt());
        assert!(breaker.failed(None) < Duration::from_secs(1));
    }

    #[test]
    fn what_the_receiver_asks_for_is_waited_at_least() {
        let mut breaker = Breaker::new(Duration::from_secs(1));
        for _ in 0..20 {
            let asked = Duration::from_secs(9);
            assert!(breaker.failed(Some(asked)) >= asked);
        }
    }
}
