//! Longer and longer pauses, with chance in them so that several processes don't come back at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// The pauses between tries of one thing.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// Begins with short pauses again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next pause: between half and all of the present step; steps double up to ten seconds.
    pub(crate) fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        step.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// Waits for the next pause; true when `stop` came first.
    pub(crate) async fn wait_or_stop(&mut self, stop: &CancellationToken) -> bool {
        let pause = self.pause();
        tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(pause) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        let first = backoff.pause();
        assert!(first >= FIRST / 2 && first <= FIRST, "{first:?}");
        let late = (0..20).map(|_| backoff.pause()).last().unwrap();
        assert!(late >= LONGEST / 2 && late <= LONGEST, "{late:?}");
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
