//! A circuit breaker: pauses requests to a target that keeps failing, then probes it with a single item.

use std::time::Duration;

use precis_runtime::backoff::Backoff;

/// Consecutive failures that open the circuit.
const OPEN_AFTER: u32 = 5;
/// Delays after failures while the circuit is closed.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// The circuit breaker of one target.
#[derive(Debug)]
pub(crate) struct Breaker {
    backoff: Backoff,
    failures: u32,
    /// How long the circuit stays open.
    open_for: Duration,
}

impl Breaker {
    /// Creates a closed circuit.
    pub(crate) fn new(open_for: Duration) -> Self {
        Self {
            backoff: Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY),
            failures: 0,
            open_for,
        }
    }

    /// Whether the circuit is open, so that only one item is sent.
    pub(crate) fn is_open(&self) -> bool {
        self.failures >= OPEN_AFTER
    }

    /// Whether the last request failed. One item is then enough to probe the target.
    pub(crate) fn last_failed(&self) -> bool {
        self.failures > 0
    }

    /// Records a response, which closes the circuit.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    /// Records a failure. Returns the delay before the next request, at least `retry_after`. Jitter keeps several
    /// monitors from returning at once.
    pub(crate) fn failed(&mut self, retry_after: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let mut delay = self.backoff.next_delay();
        if self.is_open() {
            delay = self.open_for.mul_f64(0.75 + rand::random::<f64>() / 2.0);
        }
        match retry_after {
            Some(least) => least.mul_f64(1.0 + rand::random::<f64>() / 10.0).max(delay),
            None => delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_consecutive_failures_open_the_circuit_and_one_success_closes_it() {
        let open_for = Duration::from_secs(40);
        let mut breaker = Breaker::new(open_for);
        for _ in 0..OPEN_AFTER - 1 {
            assert!(breaker.failed(None) <= Duration::from_secs(10));
            assert!(!breaker.is_open() && breaker.last_failed());
        }
        let delay = breaker.failed(None);
        assert!(breaker.is_open());
        assert!(
            delay >= open_for.mul_f64(0.75) && delay <= open_for.mul_f64(1.25),
            "{delay:?}"
        );
        breaker.succeeded();
        assert!(!breaker.is_open() && !breaker.last_failed());
        assert!(breaker.failed(None) < Duration::from_secs(1));
    }

    #[test]
    fn the_delay_is_at_least_retry_after() {
        let mut breaker = Breaker::new(Duration::from_secs(1));
        for _ in 0..20 {
            let retry_after = Duration::from_secs(9);
            assert!(breaker.failed(Some(retry_after)) >= retry_after);
        }
    }
}
