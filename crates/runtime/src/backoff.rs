//! Exponential backoff with jitter and a cap.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

/// The delays between retries of one operation.
///
/// The step starts at `min` and doubles up to `max`. Each delay is random between half a step and a whole step, so that
/// processes that failed together don't retry together.
///
/// ```
/// # use std::time::Duration;
/// # use precis_runtime::backoff::Backoff;
/// # async fn fetch() -> Result<u8, std::io::Error> { Ok(1) }
/// # async fn example(stop: tokio_util::sync::CancellationToken) -> Option<u8> {
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// loop {
///     match fetch().await {
///         Ok(value) => return Some(value),
///         Err(_) if !backoff.wait(&stop).await => return None,
///         Err(_) => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Backoff {
    policy: ExponentialBuilder,
    max: Duration,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// Creates a backoff whose steps double from `min` to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        // The crate adds up to one delay of jitter: half a step becomes half to one step.
        let policy = ExponentialBuilder::new()
            .with_min_delay(min / 2)
            .with_max_delay(max / 2)
            .with_factor(2.0)
            .without_max_times()
            .with_jitter();
        Self {
            policy,
            max,
            delays: policy.build(),
        }
    }

    /// Starts again at the shortest step. Call it after a success.
    pub fn reset(&mut self) {
        self.delays = self.policy.build();
    }

    /// Returns the next delay without waiting, for a retry that another system schedules.
    pub fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.max)
    }

    /// Returns the delay before retry number `attempt`, from 1, without jitter: `min`, doubled for every earlier retry, at
    /// most `max`. For a caller that keeps no [`Backoff`], such as one that only knows a message's delivery count.
    pub fn nth(min: Duration, max: Duration, attempt: u64) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        min.saturating_mul(2_u32.saturating_pow(doublings)).min(max)
    }

    /// Waits for the next delay. Returns `false` as soon as `stop` is cancelled.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(self.sleep()).await.is_some()
    }

    /// Waits for the next delay.
    pub async fn sleep(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const MIN: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn steps_double_up_to_the_cap_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(MIN, MAX);
        for step in [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
            let (step, delay) = (Duration::from_millis(step), backoff.next_delay());
            assert!(
                delay >= step.mul_f64(0.499) && delay <= step,
                "{delay:?} of {step:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= MIN);
    }

    #[test]
    fn the_nth_delay_doubles_up_to_the_cap() {
        let nth = |attempt| Backoff::nth(MIN, MAX, attempt).as_millis();
        let delays = [0, 1, 2, 3, 6, 7, 64, u64::MAX].map(nth);
        assert_eq!(delays, [200, 200, 400, 800, 6_400, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn delays_differ_between_two_instances() {
        let delays = || {
            let mut backoff = Backoff::new(MIN, MAX);
            [(); 4].map(|()| backoff.next_delay())
        };
        assert_ne!(delays(), delays());
    }

    #[test]
    fn a_zero_delay_stays_zero() {
        assert_eq!(Backoff::new(Duration::ZERO, MAX).next_delay(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_stop_token_is_cancelled() {
        let (mut backoff, stop) = (Backoff::new(MAX, MAX), CancellationToken::new());
        let start = Instant::now();
        assert!(backoff.wait(&stop).await);
        assert!(start.elapsed() >= MAX.mul_f64(0.499) && start.elapsed() <= MAX + Duration::from_millis(1));

        let (canceller, start) = (stop.clone(), Instant::now());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            canceller.cancel();
        });
        assert!(!backoff.wait(&stop).await);
        assert_eq!(start.elapsed().as_secs(), 1);
        assert!(!backoff.wait(&stop).await);
    }
}
