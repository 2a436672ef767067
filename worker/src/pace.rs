//! How fast this worker works, measured while it has something to do: what tells a client when its job will be done.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use precis_schemas::event::Pace;

/// Seconds of work after which a job counts half as much.
const HALF_LIFE: f64 = 60.0;

#[derive(Debug)]
struct Sums {
    /// Up to when the sums are right.
    at: Instant,
    in_hand: usize,
    /// Jobs done, seconds with at least one in hand, and seconds that the jobs took: faded sums.
    jobs: f64,
    busy: f64,
    took: f64,
}

impl Sums {
    /// Goes on to `now`. Only work makes the past fade: what was measured holds over a night without jobs.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        if self.in_hand > 0 {
            let rest = 0.5_f64.powf(passed / HALF_LIFE);
            self.jobs *= rest;
            self.took *= rest;
            self.busy = self.busy * rest + passed;
        }
    }
}

/// Measures the pace of a worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter(Arc<Mutex<Sums>>);

/// A job in hand, until this is dropped.
#[derive(Debug)]
pub struct InHand {
    meter: Meter,
    begun: Instant,
}

impl Default for Meter {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Sums {
            at: Instant::now(),
            in_hand: 0,
            jobs: 0.0,
            busy: 0.0,
            took: 0.0,
        })))
    }
}

impl Meter {
    /// The engine gets a job.
    pub fn begin(&self) -> InHand {
        let begun = Instant::now();
        let mut sums = self.lock();
        sums.advance(begun);
        sums.in_hand += 1;
        drop(sums);
        InHand {
            meter: self.clone(),
            begun,
        }
    }

    /// The pace; none before the first job is done.
    pub fn pace(&self) -> Option<Pace> {
        let mut sums = self.lock();
        sums.advance(Instant::now());
        (sums.jobs > 0.0 && sums.busy > 0.0).then(|| Pace {
            jobs_per_second: sums.jobs / sums.busy,
            seconds_per_job: sums.took / sums.jobs,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        // Sums of times that are right or, after a panic elsewhere, nearly so.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InHand {
    /// Time since the engine got it.
    pub fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The engine is done with it: it counts. One that is handed back is only dropped.
    pub fn done(self) {
        let mut sums = self.meter.lock();
        sums.advance(Instant::now());
        sums.jobs += 1.0;
        sums.took += self.begun.elapsed().as_secs_f64();
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut sums = self.meter.lock();
        sums.advance(Instant::now());
        sums.in_hand = sums.in_hand.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(at: Instant) -> Sums {
        Sums {
            at,
            in_hand: 0,
            jobs: 0.0,
            busy: 0.0,
            took: 0.0,
        }
    }

    #[test]
    fn only_time_with_something_to_do_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sums = sums(start);
        sums.in_hand = 2;
        sums.advance(at(2));
        sums.jobs += 2.0;
        sums.in_hand = 0;
        sums.advance(at(10_000));
        assert!((sums.jobs / sums.busy - 1.0).abs() < 1e-9, "{sums:?}");
        // A minute of work at another pace counts as much as all that came before.
        sums.in_hand = 1;
        for second in 1..=60 {
            sums.advance(at(10_000 + second));
            sums.jobs += 0.1;
        }
        let pace = sums.jobs / sums.busy;
        assert!(pace > 0.1 && pace < 0.2, "{pace}");
    }

    #[test]
    fn what_is_handed_back_is_not_done() {
        let meter = Meter::default();
        drop(meter.begin());
        assert_eq!(meter.pace(), None);
        meter.begin().done();
        assert!(meter.pace().unwrap().jobs_per_second > 0.0);
        assert_eq!(meter.lock().in_hand, 0);
    }
}
